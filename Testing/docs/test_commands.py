"""Every command and every Python block of the documents works."""

from __future__ import annotations

import ast
import re

import pytest
from carlreg.cli.main import COMMANDS, build_parser
from support.documents import PAGES, README, ROOT, Block, blocks, inline_code

from .commands import NOT_RUN, Runner, command_lines
from .conftest import FIRST

ALL = [block for page in PAGES for block in blocks(page)]
BASH = [block for block in ALL if block.language == "bash"]
PYTHON = [block for block in ALL if block.language == "python"]
SLICER_NAMES = {"slicer", "CARLRegistrationLib", "logic"}


def in_slicer(block: Block) -> bool:
    """A block for Slicer's Python console: Testing/slicer runs it."""
    return block.page.name == "slicer.md"


def each(found: list[Block]):
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def test_every_block_has_a_language_that_is_known():
    assert {block.language for block in ALL} <= {"bash", "python", "text"}
    assert len(BASH) >= 20 and len(PYTHON) >= 4


@each(BASH)
def test_commands(block, runner, earlier):
    lines = command_lines(block)
    assert lines
    for words in lines:
        runner.run(words)


@each([block for block in PYTHON if not in_slicer(block)])
def test_python(block, runner, earlier):
    exec(compile(block.text, block.name, "exec"), {"__name__": block.name})


def test_the_first_registration_is_the_readmes():
    assert any(FIRST in block.text for block in blocks(README))


def test_what_is_not_run_is_needed():
    assert {words[0] for block in BASH for words in command_lines(block)} >= NOT_RUN


@pytest.mark.parametrize(
    "line",
    [
        "make no-such-target",
        "make demo NOTHING=1",
        "pip install '.[nothing]'",
        "pip install left-pad",
        "python Testing/no_such_file.py",
        "python Testing/benchmarks/run.py --no-such-option",
        "carlreg models --no-such-option",
        "carlreg report no-such-folder",
        "torchrun -m carlreg train walk",
        "rm -rf /",
    ],
)
def test_a_wrong_command_is_found(line, tmp_path):
    (words,) = command_lines(Block(ROOT / "README.md", 1, "bash", line))
    with pytest.raises((AssertionError, SystemExit, OSError, Exception)):
        Runner(tmp_path, {}).run(words)


def options() -> set[str]:
    """The options of all commands, and of the benchmark."""
    parser = build_parser()
    found = set(re.findall(r'"(--[\w-]+)"', (ROOT / "Testing" / "benchmarks" / "run.py").read_text(encoding="utf-8")))
    todo = [parser]
    while todo:
        for action in todo.pop()._actions:
            found |= set(action.option_strings)
            if isinstance(action.choices, dict):
                todo += action.choices.values()
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_and_commands_in_sentences_exist(page):
    known = options()
    for code in inline_code(page):
        words = code.split()
        if words[0] == "carlreg" and len(words) > 1:
            assert words[1] in {*COMMANDS, "COMMAND"}, code
        if words[0] in ("carlreg", "register", "apply") or words[0].startswith("--"):
            assert {word for word in words if word.startswith("--")} <= known | {"--help"}, code
        if words[0] == "make" and len(words) > 1:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), code


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name):
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text.split("| command |")[1].split("\n\n")[0]


def test_python_for_slicer_names_what_is_there():
    """What the console blocks import from the module is offered there."""
    for block in filter(in_slicer, PYTHON):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom):
                package = ROOT.joinpath("CARLRegistration", *node.module.split("."), "__init__.py")
                inside = list(ast.walk(ast.parse(package.read_text(encoding="utf-8"))))
                names = {alias.name for each in inside if isinstance(each, ast.ImportFrom) for alias in each.names}
                names |= {each.value for each in inside if isinstance(each, ast.Constant)}  # imported when asked for
                assert {alias.name for alias in node.names} <= names, block.name
