"""`carlreg COMMAND ...`: parse the arguments, refuse wrong ones at once, hand the job to a worker process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from .. import __version__
from ..errors import CarlError
from .console import say, say_error
from .supervisor import StopPolicy, Supervisor


class _Commands(Mapping[str, ModuleType]):
    """The file of each command by its name, imported when it is asked for: a run is not to wait for the others."""

    _names = (
        *("register", "mend", "apply", "export", "convert", "invert", "compose", "linear", "evaluate", "report"),
        *("models", "check", "demo", "train", "cohort", "series", "template"),
    )

    def __getitem__(self, name: str) -> ModuleType:
        if name not in self._names:
            raise KeyError(name)
        return import_module(f".{name}", __package__)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


COMMANDS = _Commands()
_EPILOG = "Exit codes: 0 done, 2 bad input, 3 cancelled, 1 anything else. Help on a command: carlreg COMMAND --help"


class _Parser(argparse.ArgumentParser):
    """Answers a wrong argument with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        say(f"Error: {message[0].upper()}{message[1:]}. Help: {self.prog} --help")
        self.exit(2)


def build_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser with all commands, or with the one that arguments begin with; needs neither torch nor SimpleITK."""
    parser = _Parser(
        prog="carlreg",
        description="Registers two 3-D medical images: a transform from fixed to moving points, with its quality.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"carlreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS:
        module = COMMANDS[name]
        command = commands.add_parser(name, help=module.HELP, description=module.HELP, epilog=module.EPILOG)
        module.add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None, to_the_end: bool = False) -> int:
    """Run one command line; returns the exit code. to_the_end: the process is over then, so signals stay handled."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = build_parser(arguments).parse_args(arguments)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a wrong argument
        return int(stop.code or 0)
    try:
        with Supervisor(getattr(args, "control", None) == "stdin", to_the_end) as supervisor:
            leftovers = COMMANDS[args.command].check(args)
            return supervisor.run(arguments, leftovers, getattr(COMMANDS[args.command], "STOP_POLICY", StopPolicy()))
    except CarlError as error:
        say_error(error)
        return error.exit_code
