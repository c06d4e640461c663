"""`carlreg COMMAND ...`: parse the arguments, refuse wrong ones at once, hand the job to a worker process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..errors import CarlError
from . import (
    apply,
    check,
    compose,
    convert,
    demo,
    evaluate,
    export,
    invert,
    linear,
    mend,
    models,
    register,
    report,
    train,
)
from .console import say, say_error
from .supervisor import StopPolicy, Supervisor

COMMANDS = {
    module.NAME: module
    for module in (
        register,
        mend,
        apply,
        export,
        convert,
        invert,
        compose,
        linear,
        evaluate,
        report,
        models,
        check,
        demo,
        train,
    )
}
_EPILOG = "Exit codes: 0 done, 2 bad input, 3 cancelled, 1 anything else. Help on a command: carlreg COMMAND --help"


class _Parser(argparse.ArgumentParser):
    """Answers a wrong argument with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        say(f"Error: {message[0].upper()}{message[1:]}. Help: {self.prog} --help")
        self.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; needs neither torch nor SimpleITK."""
    parser = _Parser(
        prog="carlreg",
        description="Registers two 3-D medical images: a transform from fixed to moving points, with its quality.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"carlreg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP, epilog=module.EPILOG)
        module.add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None, to_the_end: bool = False) -> int:
    """Run one command line; returns the exit code. to_the_end: the process is over then, so signals stay handled."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = build_parser().parse_args(arguments)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a wrong argument
        return int(stop.code or 0)
    try:
        with Supervisor(getattr(args, "control", None) == "stdin", to_the_end) as supervisor:
            leftovers = COMMANDS[args.command].check(args)
            return supervisor.run(arguments, leftovers, getattr(COMMANDS[args.command], "STOP_POLICY", StopPolicy()))
    except CarlError as error:
        say_error(error)
        return error.exit_code
