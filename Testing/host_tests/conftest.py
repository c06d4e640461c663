"""The host, back at its start for every test."""

from pathlib import Path

import host as host_package
import pytest


@pytest.fixture
def host():
    """A running host with an empty scene; exceptions that the host recorded fail the test."""
    running = host_package.start()
    running.reset()
    yield running
    errors = list(running.errors)
    running.reset()
    assert not errors


@pytest.fixture
def example_path():
    """The example module of these tests."""
    return Path(__file__).parent / "example_module" / "HostExample.py"


@pytest.fixture
def calls():
    """A list that a test lets slots fill."""
    return []


@pytest.fixture
def pnw(host):
    import slicer.parameterNodeWrapper

    return slicer.parameterNodeWrapper


@pytest.fixture
def new_node(host):
    return lambda: host.scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def wrap(pnw, new_node):
    """A wrapper with the given annotations (and defaults), on a new node or the given one."""

    def make(annotations, node=None, **defaults):
        cls = pnw.parameterNodeWrapper(type("Parameters", (), {"__annotations__": annotations, **defaults}))
        return cls(node or new_node())

    return make
