"""Python packages as a module installs them: the contents of ``slicer.packaging`` on an installer that tests control.

Behavior follows Base/Python/slicer/packaging.py; nothing is ever installed.
"""

import importlib.metadata
import types
from dataclasses import dataclass, field
from subprocess import CalledProcessError

import slicer
import slicer.util
from packaging.requirements import InvalidRequirement, Requirement
from slicer.i18n import tr as _


@dataclass
class InstallCall:
    """One call that a real application would have passed to pip."""

    requirements: list[str]
    options: dict = field(default_factory=dict)


class Installer:
    """What is installed and what happens on installation.

    ``missing``: names of packages that count as not installed (anything else is looked up in this Python).
    ``fail``: pip fails when True, with CalledProcessError as in Slicer.
    ``updated_imported``: names for which a restart is recommended after an installation.
    ``on_install``: called with the InstallCall, for what an installation should bring about in a test.
    ``calls``, ``checks``, ``uninstalled``: what was asked for.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        self.missing: set[str] = set()
        self.fail = False
        self.updated_imported: list[str] = []
        self.on_install = None
        self.calls: list[InstallCall] = []
        self.checks: list[list[str]] = []
        self.uninstalled: list[list[str]] = []

    def is_satisfied(self, requirement):
        if requirement.marker is not None and not requirement.marker.evaluate():
            return True
        if requirement.name.lower() in {name.lower() for name in self.missing}:
            return False
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        return requirement.specifier.contains(installed)

    def install(self, requirements, **options):
        call = InstallCall(requirements, options)
        self.calls.append(call)
        if self.fail:
            raise CalledProcessError(1, ["pip", "install", *requirements])
        installed = {_name_of(requirement).lower() for requirement in requirements}
        self.missing = {name for name in self.missing if name.lower() not in installed}
        if self.on_install:
            self.on_install(call)


def _name_of(requirement):
    try:
        return Requirement(requirement).name
    except InvalidRequirement:  # a pip option
        return requirement


def to_requirements(requirements):
    """A requirement, several separated by blanks, a Requirement, or a list of these (packaging._to_requirements)."""
    if isinstance(requirements, str):
        try:
            return [Requirement(requirements)]
        except InvalidRequirement:
            return [Requirement(text) for text in requirements.split()]
    if isinstance(requirements, Requirement):
        return [requirements]
    if isinstance(requirements, list):
        return [Requirement(entry) if isinstance(entry, str) else entry for entry in requirements]
    raise TypeError(f"no requirements: {requirements!r}")


def load_requirements(path):
    """Requirements of a file; comments, empty lines and pip options are left out."""
    with open(path) as file:
        lines = [line.strip() for line in file]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def packaging_module(installer):
    """The ``slicer.packaging`` module on an installer."""

    def pip_check(req):
        requirements = to_requirements(req)
        installer.checks.append([str(requirement) for requirement in requirements])
        return all(installer.is_satisfied(requirement) for requirement in requirements)

    def pip_install(
        requirements,
        constraints=None,
        no_deps_requirements=None,
        skip_packages=None,
        blocking=True,
        show_progress=True,
        requester=None,
        logCallback=None,
        completedCallback=None,
    ):
        if skip_packages is not None and no_deps_requirements is not None:
            raise ValueError("skip_packages does not go with no_deps_requirements")
        if skip_packages is not None and not blocking:
            raise ValueError("skip_packages goes with blocking=True only")
        if not blocking:
            raise NotImplementedError("this host imitates pip_install with blocking=True only")
        installer.install(
            requirements.split() if isinstance(requirements, str) else list(requirements),
            constraints=constraints,
            no_deps_requirements=no_deps_requirements,
            skip_packages=skip_packages,
            show_progress=show_progress,
            requester=requester,
        )
        return None if skip_packages is None else []

    def pip_ensure(
        requirements,
        constraints=None,
        skip_packages=None,
        prompt_install=True,
        prompt_restart=True,
        requester=None,
        skip_in_testing=True,
        show_progress=True,
    ):
        missing = [req for req in to_requirements(requirements) if not pip_check(req)]
        if not missing:
            return None
        if skip_in_testing and slicer.app.testingEnabled():
            return None
        if prompt_install:
            title = _("Install Python Packages")
            title = f"{requester} - {title}" if requester else title
            text = _("Install {count} Python packages?").format(count=len(missing))
            details = "\n".join(f"- {req}" for req in missing)
            if not slicer.util.confirmOkCancelDisplay(text, title, detailedText=details):
                raise RuntimeError("the user declined the installation")
        skipped = pip_install(
            [str(req) for req in missing],
            constraints=constraints,
            skip_packages=skip_packages,
            show_progress=show_progress,
            requester=requester,
        )
        if prompt_restart and installer.updated_imported and not slicer.app.testingEnabled():
            title = _("Restart")
            text = _("Restart, since packages in use were updated?")
            details = "\n".join(installer.updated_imported)
            if slicer.util.confirmYesNoDisplay(text, title, detailedText=details):
                slicer.util.restart()
        return skipped

    def pip_uninstall(requirements, blocking=True, logCallback=None, completedCallback=None):
        names = requirements.split() if isinstance(requirements, str) else list(requirements)
        installer.uninstalled.append(names)
        installer.missing.update(names)

    module = types.ModuleType("slicer.packaging", "Package installation, recorded")
    for function in (pip_check, pip_ensure, pip_install, pip_uninstall, load_requirements):
        setattr(module, function.__name__, function)
    return module
