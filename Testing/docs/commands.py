"""Running the commands that the documents give: ours for real, the rest as far as it can be checked without them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from carlreg.cli import worker
from carlreg.cli.main import COMMANDS, build_parser
from support.documents import ROOT, Block

# Programs of others: what stands behind them is not run.
NOT_RUN = {"git"}
PYTHONS = {"python", ".venv/bin/python"}


def command_lines(block: Block) -> list[list[str]]:
    """The words of each command of a bash block, comments left out."""
    text = block.text.replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


@dataclass
class Runner:
    """Runs each command once, in a folder. variables: what $NAME stands for. done: the commands that were run."""

    folder: Path
    variables: dict[str, str]
    done: set[tuple[str, ...]] = field(default_factory=set)

    def run(self, words: list[str]) -> None:
        """Run or check one command; raises AssertionError when it does not work as it is documented."""
        words = [re.sub(r"\$(\w+)", lambda name: self.variables[name[1]], word) for word in words]
        if tuple(words) in self.done:
            return
        while re.fullmatch(r"[A-Z]+=\S+", words[0]):
            words = words[1:]
        program, arguments = words[0], words[1:]
        if program == "carlreg":
            self._carlreg(arguments)
        elif program == "make":
            check_make(arguments)
        elif program == "pip":
            check_pip(arguments)
        elif program == "torchrun":
            check_arguments(arguments[arguments.index("carlreg") + 1 :])
        elif program in PYTHONS:
            check_script(arguments)
        else:
            assert program in NOT_RUN, f"{program} is neither known nor in the list of what is not run"
        self.done.add(tuple(words))

    def _carlreg(self, arguments: list[str]) -> None:
        if "--help" in arguments:
            check_arguments(arguments)
            return
        args = build_parser().parse_args(arguments)
        COMMANDS[args.command].check(args)
        assert worker.main(arguments) == 0, arguments
        out = getattr(args, "out", None)
        if out is not None and "--dry-run" not in arguments:
            assert list(self.folder.glob(f"{out.removesuffix('.nii.gz')}*")), f"{out} was not written"


def check_arguments(arguments: list[str]) -> None:
    """The arguments are accepted by the parser."""
    code = 0
    try:
        build_parser().parse_args(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 0, arguments


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def check_make(arguments: list[str]) -> None:
    """The targets exist, and the variables are used."""
    text = makefile()
    for argument in arguments:
        name, given, _ = argument.partition("=")
        found = f"$({name})" in text or f"$({name}," in text if given else re.search(rf"^{name}:", text, re.MULTILINE)
        assert found, f"make {argument}: the Makefile does not know it"


def check_pip(arguments: list[str]) -> None:
    """`pip install` of this package with extras that exist, or of packages that an extra names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = dict(re.findall(r"^([\w-]+) = \[(.*?)\]", section, re.MULTILINE | re.DOTALL))
    assert arguments[0] == "install"
    for argument in arguments[1:]:
        if argument == "-e":
            continue
        own = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", argument)
        if own:
            assert set((own[1] or "").split(",")) - {""} <= set(extras), argument
        else:
            assert any(f'"{argument}>=' in names for names in extras.values()), argument


def check_script(arguments: list[str]) -> None:
    """The script is there, and mentions its options and subcommands; `-m carlreg ...` has arguments that are known."""
    if arguments[:2] == ["-m", "carlreg"]:
        check_arguments(arguments[2:])
        return
    text = (ROOT / arguments[0]).read_text(encoding="utf-8")
    for argument in arguments[1:]:
        if argument.startswith("--"):
            assert f'"{argument}"' in text, f"{arguments[0]} has no option {argument}"
