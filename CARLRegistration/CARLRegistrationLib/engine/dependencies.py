"""What the engine needs in Slicer's Python, asked for on Apply and never before.

torch comes through the PyTorch extension, which picks the build for the computer; the rest through Slicer's own pip
functions. Nothing here imports torch: inside Slicer that can crash the application, and it is the child's to do.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ..common.errors import RegistrationCancelled, RegistrationError
from .task import Task
from .words import loadProblem

REQUIREMENTS_FILE = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
# What a download takes, roughly: torch for the CPU alone, and with CUDA.
_SIZES = {"torch": "200 MB to 3 GB", "safetensors": "1 MB", "pydicom": "2 MB", "dask[distributed]": "5 MB"}
_CHECK_SECONDS = 600.0  # that a Python may take to say what it has, on a busy computer with a cold disk


def requirements() -> list[str]:
    """The lines of Resources/requirements.txt: what comes through pip."""
    lines = (line.split("#")[0].strip() for line in REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def missing(*more: str) -> list[str]:
    """Names of the packages that Slicer's Python lacks; only looked up, nothing is imported.

    more: lines as in requirements.txt of what is needed besides.
    """
    return [_name(line) for line in ["torch", *requirements(), *more] if not _isThere(line)]


def ensure(*more: str) -> None:
    """Install what is missing, after one question. more: as of `missing`.

    Raises: RegistrationCancelled when the user declines (nothing is changed then); RegistrationError when something
    cannot be installed.
    """
    lacking = missing(*more)
    if not lacking:
        return
    if slicer.app.testingEnabled():  # every question is answered by "Ok" there, and gigabytes would be downloaded
        raise RegistrationError(
            _("Missing: {names}. Nothing is installed while Slicer runs tests.").format(names=", ".join(lacking))
        )
    pytorch = _pytorchLogic() if "torch" in lacking else None
    listed = "\n".join(f"\u2022 {name} ({_SIZES.get(name, '?')})" for name in lacking)
    question = _(
        "CARLRegistration needs these Python packages, which will be downloaded and installed into Slicer's "
        "Python:\n\n{packages}\n\nNothing that Slicer brings is replaced. Install them now?"
    ).format(packages=listed)
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("Install Python packages")):
        raise RegistrationCancelled(_("Nothing was installed and nothing was changed."))
    try:
        if pytorch is not None:
            _installTorch(pytorch)
        rest = [line for line in [*requirements(), *more] if not _isThere(line)]
        if rest:
            _pipInstall(rest)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise RegistrationError(
            _("The Python packages could not be installed: {error}. Is there a network connection?").format(
                error=error
            ),
            log=str(error),
        ) from error
    still = missing(*more)
    if still:
        raise RegistrationError(_("Still missing after the installation: {names}.").format(names=", ".join(still)))


def _installTorch(pytorch) -> None:
    """Let the extension install torch, but not import it here: its installTorch ends with `import torch`.

    Source: SlicerPyTorch, PyTorchUtils/PyTorchUtils.py. Whether it worked is seen afterwards.
    """
    there = "torch" in sys.modules
    if not there:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType] - makes `import torch` an ImportError
    try:
        pytorch.installTorch(askConfirmation=False)
    except ImportError:
        if there:
            raise
    finally:
        if not there:
            sys.modules.pop("torch", None)
    if not _installed("torch"):
        raise RegistrationError(_("PyTorch was not installed. Try again in the PyTorch Utils module."))


def _pipInstall(lines: list[str]) -> None:
    """Through slicer.packaging (Slicer 5.12 and later) or slicer.util.pip_install; asked for already, wheels only."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:
        slicer.util.pip_install(["--only-binary", ":all:", *lines])
        return
    pip_ensure(lines, prompt_install=False, prompt_restart=False, requester="CARLRegistration")


def _pytorchLogic():
    """The PyTorch extension's logic. Raises RegistrationError when the extension is not installed."""
    try:
        import PyTorchUtils
    except ImportError as error:
        raise RegistrationError(
            _(
                "The PyTorch extension is missing. Install it in the Extensions Manager and restart Slicer, or choose "
                "another engine Python under Advanced."
            )
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _name(requirement: str) -> str:
    """With its extra, without its version."""
    for end, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_.[]"):
            return requirement[:end]
    return requirement


def _isThere(requirement: str) -> bool:
    """True when a package is installed, and that of its extra, which is called as the extra: dask[distributed]."""
    return all(_installed(name) for name in _name(requirement).rstrip("]").split("["))


class PythonCheck:
    """`carlreg check` in the engine's Python: polled until it tells what is there.

    Args: python: None for Slicer's own. Raises RegistrationError when it cannot be started.
    """

    def __init__(self, python: str | None) -> None:
        self._cancelled = False
        self._task = Task(python)
        try:
            self._task.launch(["check", "--json"])
        except OSError as error:
            self._task.close()
            raise RegistrationError(
                _("{python} could not be started: {error}. Choose a Python executable.").format(
                    python=python, error=error.strerror or error
                )
            ) from error

    @property
    def elapsed(self) -> float:
        return self._task.elapsed

    @property
    def cancelling(self) -> bool:
        return self._cancelled

    def poll(self) -> dict | None:
        """None while running; then what `carlreg check` found.

        Raises: RegistrationError when it found nothing, RegistrationCancelled after `cancel`.
        """
        report = self._task.advance()
        if report.running:
            if self._task.elapsed > _CHECK_SECONDS:
                self._task.process.stop()
            return None
        try:
            if self._cancelled:
                raise RegistrationCancelled(_("Cancelled; nothing was changed."))
            found = json.loads(self._task.process.output())
        except ValueError:
            found = None
        finally:
            self._task.close()
        if report.exit_code != 0 or not isinstance(found, dict):
            raise RegistrationError(
                _("This is no Python that can run the engine (3.10 or newer is needed)."), self._task.log()
            )
        return found

    def cancel(self) -> None:
        """End it now; `poll` says so."""
        self._cancelled = True
        self._task.process.stop()

    def abort(self) -> None:
        """End it now; nothing of it is left."""
        self._cancelled = True
        self._task.abort()


# Other Pythons that were found fit in this session: path -> when the file was changed.
_checked: dict[str, float | None] = {}


def isChecked(python: str) -> bool:
    """True when this executable was found fit before and has not changed since."""
    return python in _checked and _checked[python] == _changed(python)


def setChecked(python: str) -> None:
    _checked[python] = _changed(python)


def _changed(python: str) -> float | None:
    try:
        return Path(python).stat().st_mtime
    except OSError:
        return None


def checkProblem(found: dict, another: bool) -> str:
    """What is wrong with a checked Python, in a line, or "". another: not Slicer's own, which is added to on Apply."""
    version = tuple(int(part) for part in found["python"].split(".")[:2])
    if version < (3, 10):
        return _("Python {version} is too old; 3.10 or newer is needed.").format(version=found["python"])
    problem = loadProblem(f"torch: {found['missing'].get('torch', '')}")
    if problem:
        return problem
    if found["missing"]:
        names = ", ".join(found["missing"])
        if another:
            return _("Missing there: {names}. Install them with that Python's pip.").format(names=names)
        return _("Not there yet: {names}; Apply offers to install them").format(names=names)
    return ""
