"""`carlreg train ACTION`: train a network, watch it, export its weights."""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
from pathlib import Path

from ..atomic import check_file, cleaner
from ..errors import Cancelled, InputError, ResourceError
from ..paths import given_path
from ..progress import Progress, ProgressRecord
from .console import Display
from .register import require_existing
from .supervisor import StopPolicy

NAME = "train"
HELP = "Train a network on generated pairs or your own images; watch, export."
EPILOG = "See docs/training.md. carlreg train ACTION --help tells more about an action."
# A step and a checkpoint are waited for; the checkpoint holds the run.
STOP_POLICY = StopPolicy(
    grace_seconds=180.0,
    kept="what was saved before stays, and the same command goes on from it",
    memory_remedy="Lower optimizer.batch, data.synthetic.size or data.images.edge, or close other programs.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text)

    run = action("run", "Train until the run's length, the time limit or a stop; goes on from DIR/checkpoint.pt.")
    run.add_argument("--config", metavar="FILE", required=True, help="TOML file (examples: carlreg/training/configs)")
    run.add_argument("--out", metavar="DIR", required=True, help="folder of the run")
    run.add_argument("--time-limit", type=float, metavar="MINUTES", help="stop after so long, with a checkpoint")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. optimizer.rate=1e-4")
    _add_control(run)

    report = action("report", "Draw the curves of a run to DIR/report.png and print its last numbers.")
    report.add_argument("dir", metavar="DIR", help="folder of the run")
    report.add_argument("--out", metavar="FILE", help="PNG file to write instead")

    export = action("export", "Write the averaged weights of a checkpoint as a weights file, with a model card.")
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint.pt or best.pt of a run")
    export.add_argument("--out", metavar="FILE", required=True, help="file to write, .safetensors")
    export.add_argument("--shards", type=float, metavar="MB", help="write pieces of at most so many MB, and an index")
    export.add_argument("--license", help="license of the weights (default: Apache-2.0 when no image was used)")

    join = action("join", "Put the pieces that `export --shards` wrote together again.")
    join.add_argument("index", metavar="INDEX", help="FILE.safetensors.index.json")
    join.add_argument("--out", metavar="FILE", required=True, help="file to write, .safetensors")

    preview = action("preview", "Draw generated training pairs as a picture sheet.")
    preview.add_argument("--config", metavar="FILE", help="TOML file whose generated data are shown")
    preview.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for run")
    preview.add_argument("--out", metavar="FILE", required=True, help="PNG file to write")
    preview.add_argument("--pairs", type=int, default=6, metavar="N", help="(%(default)s)")
    preview.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")


def _add_control(parser: argparse.ArgumentParser) -> None:
    control = parser.add_argument_group("progress and stop")
    text = "lines of the log on stderr, a bar, JSON lines, or nothing (%(default)s)"
    control.add_argument("--progress", choices=("log", "bar", "json", "none"), default="log", help=text)
    control.add_argument("--control", choices=("stdin",), help="a line `cancel` on standard input, or its end, stops")


def check(args: argparse.Namespace):
    """Refuse what can be refused before any library is loaded; returns the clean-up of a broken run."""
    return _CHECKS[args.action](args)


def _check_run(args: argparse.Namespace):
    require_existing(args.config, "config")
    if args.time_limit is not None and not 0 < args.time_limit < math.inf:
        raise InputError(f"--time-limit: expected minutes above 0, got {args.time_limit:g}.")
    folder = given_path(args.out, "--out").resolve()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder for the run, got a file. Choose another name.")
    return cleaner(check_file(folder / "checkpoint.pt"))


def _check_report(args: argparse.Namespace):
    require_existing(str(Path(args.dir) / "log.csv"), "log of the run")
    return cleaner(check_file(_report_file(args)))


def _check_export(args: argparse.Namespace):
    require_existing(args.checkpoint, "checkpoint")
    if args.shards is not None and not 0.001 <= args.shards < math.inf:
        raise InputError(f"--shards: expected megabytes from 0.001 on, got {args.shards:g}.")
    return cleaner(_weights_file(args.out))


def _check_join(args: argparse.Namespace):
    require_existing(args.index, "index")
    return cleaner(_weights_file(args.out))


def _check_preview(args: argparse.Namespace):
    require_existing(args.config, "config")
    if not 1 <= args.pairs <= 50:
        raise InputError(f"--pairs: expected 1 to 50, got {args.pairs}.")
    return cleaner(check_file(args.out))


_CHECKS = {
    "run": _check_run,
    "report": _check_report,
    "export": _check_export,
    "join": _check_join,
    "preview": _check_preview,
}


def run(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    {"run": _train, "report": _report, "export": _export, "join": _join, "preview": _preview}[args.action](
        args, progress, display
    )


def _train(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..training.loop import train
    from ..training.parallel import ranks
    from ..training.run import Run
    from ..training.settings import read_config

    config = read_config(args.config, args.set)
    # Batch systems send it to every process at once, not only to the one that listens.
    signal.signal(signal.SIGTERM, lambda *_: progress.cancel())
    out = given_path(args.out, "--out").resolve()

    def stop() -> bool:
        try:
            progress.check()
        except Cancelled:
            return True
        return False

    def on_step(run: Run, numbers: dict[str, float]) -> None:
        message = f"step {run.step}, loss {numbers['loss']:.4f}"
        left = run.seconds * (1 / run.fraction - 1) if run.fraction > 0 else None
        progress.report(ProgressRecord("train", run.fraction, left, message))
        if run.step % config.run.log_every == 0:
            log.info("%s, rate %.3g, %.0f s", message, numbers["rate"], run.seconds)

    with ranks(config.run.device) as mine:
        log = _logger(args.progress == "log" and mine.first)
        if not mine.first:
            progress.on_record = lambda record: None
        limit = math.inf if args.time_limit is None else 60 * args.time_limit
        try:
            outcome = train(config, out, mine, time_limit_seconds=limit, stop=stop, on_step=on_step)
        except RuntimeError as error:
            if "unable to write to file </torch_" in str(error):
                raise ResourceError(
                    "The shared memory (/dev/shm) is full. Give the container more of it, or set data.workers = 0."
                ) from error
            raise
        if mine.first:
            how = {"finished": "Finished", "time limit": "The time limit was reached", "stopped": "Stopped"}
            display.result(f"{how[outcome.reason]} at step {outcome.step}; the run is in {out}.")
    if outcome.reason == "stopped":
        progress.check()


def _logger(shown: bool) -> logging.Logger:
    logger = logging.getLogger("carlreg")
    logger.setLevel(logging.INFO if shown else logging.WARNING)
    if shown:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    return logger


def _report(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..training.report import draw_report, last_numbers

    file = _report_file(args)
    draw_report(Path(args.dir), file)
    display.result(f"{last_numbers(Path(args.dir))}\nwrote {file}")


def _report_file(args: argparse.Namespace) -> str:
    return args.out or os.path.join(args.dir, "report.png")


def _export(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..training.export import export

    written = export(Path(args.checkpoint), _weights_file(args.out), license=args.license, shard_mb=args.shards)
    display.result(f"SHA-256 {written.sha256}\nwrote {', '.join(str(path) for path in written.files)}")


def _join(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..training.shards import join

    file = _weights_file(args.out)
    display.result(f"SHA-256 {join(Path(args.index), file)}\nwrote {file}")


def _preview(args: argparse.Namespace, progress: Progress, display: Display) -> None:
    from ..atomic import staged_file
    from ..training.data_settings import DataSettings
    from ..training.planar.preview import preview as preview_of_planes
    from ..training.preview import preview
    from ..training.settings import read_config

    config = read_config(args.config, args.set) if args.config else None
    data = DataSettings() if config is None else config.data
    with staged_file(args.out) as part:
        if config is not None and config.stage.kind == "planar":
            preview_of_planes(part, data, seed=args.seed, pairs=args.pairs)
        else:
            preview(part, data.synthetic, seed=args.seed, pairs=args.pairs)
    display.result(f"wrote {args.out}")


def _weights_file(out: str) -> Path:
    file = check_file(out)
    if file.suffix.lower() != ".safetensors":
        raise InputError(f"--out: expected a name that ends in .safetensors, got {file.name}.")
    return file
