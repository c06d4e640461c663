"""How much memory is free, by each source that limits it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from carlreg.errors import NotEnoughMemory
from carlreg.volumes import available_memory_mb, memory, require_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_free_memory_is_plausible():
    assert 50 < available_memory_mb() < 1e8


def test_message_says_need_free_and_remedy(monkeypatch):
    monkeypatch.setattr(memory, "available_memory_mb", lambda: 2048.0)
    require_memory(2000, "this registration", "Choose --grid 96.")
    with pytest.raises(NotEnoughMemory, match=r"about 5\.0 GB needed, 2\.0 GB free\. Choose --grid 96\.") as caught:
        require_memory(5120, "this registration", "Choose --grid 96.")
    assert caught.value.exit_code == 2


def test_unknown_is_let_pass(monkeypatch):
    monkeypatch.setattr(memory, "available_memory_mb", lambda: None)
    require_memory(1e12, "anything", "")


def test_container_limit_version_2(tmp_path):
    group = tmp_path / "fs" / "outer" / "inner"
    group.mkdir(parents=True)
    (tmp_path / "membership").write_text("0::/outer/inner\n")
    assert memory._cgroup_mb(tmp_path / "fs", tmp_path / "membership") is None
    for folder, limit, used in ((group, "max", 100), (group.parent, str(1000 * 2**20), 300)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used * 2**20}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {50 * 2**20}\n")
    assert memory._cgroup_mb(tmp_path / "fs", tmp_path / "membership") == pytest.approx(750)


def test_container_limit_version_1(tmp_path):
    group = tmp_path / "memory" / "docker"
    group.mkdir(parents=True)
    (tmp_path / "membership").write_text("5:cpu,cpuacct:/docker\n4:memory:/docker\n")
    (group / "memory.limit_in_bytes").write_text(str(400 * 2**20))
    (group / "memory.usage_in_bytes").write_text(str(150 * 2**20))
    (group / "memory.stat").write_text(f"cache 5\ntotal_inactive_file {10 * 2**20}\n")
    assert memory._cgroup_mb(tmp_path, tmp_path / "membership") == pytest.approx(260)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space limits as on Linux")
def test_own_limit(monkeypatch):
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * 4096 + 700 * 2**20
    monkeypatch.setattr(resource, "getrlimit", lambda which: (wanted, wanted))
    assert memory._address_space_mb() == pytest.approx(700, abs=30)
