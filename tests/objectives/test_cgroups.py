"""Memory within control groups, read from trees as Linux lays them out."""

from pathlib import Path

import pytest
import torch

from objectives.engine import memory
from objectives.engine.cgroups import group_bytes

V1 = "35 31 0:32 {above} /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n"
V2 = "41 31 0:38 {above} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
OTHER = "22 1 0:21 / /proc rw - proc proc rw\n34 31 0:31 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"


def laid_out(root: Path, mounts: str, groups: str, files: dict[str, object]) -> Path:
    written = {"proc/self/mountinfo": OTHER + mounts, "proc/self/cgroup": groups, **files}
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def v2(folder: str, limit: object, held: int, cached: int = 0) -> dict[str, object]:
    place = f"sys/fs/cgroup/{folder}"
    return {
        f"{place}/memory.max": limit,
        f"{place}/memory.current": held,
        f"{place}/memory.stat": f"anon 5\ninactive_file {cached}\nactive_file 3",
    }


def v1(folder: str, limit: int, held: int, cached: int = 0) -> dict[str, object]:
    place = f"sys/fs/cgroup/memory/{folder}"
    return {
        f"{place}/memory.limit_in_bytes": limit,
        f"{place}/memory.usage_in_bytes": held,
        f"{place}/memory.stat": f"inactive_file 1\ntotal_inactive_file {cached}",
    }


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "expected"),
    [
        (V2.format(above="/"), "0::/a/b", {**v2("a/b", "max", 7), **v2("a", 1000, 600, 100)}, 500),
        (V2.format(above="/"), "0::/a/b", {**v2("a/b", 900, 700), **v2("a", 1000, 600)}, 200),
        (V2.format(above="/"), "0::/", v2("", 300, 400), 0),
        (V2.format(above="/docker/x"), "0::/docker/x/c", {**v2("c", 800, 100), **v2("", 700, 200)}, 500),
        (V2.format(above="/"), "0::/../elsewhere", v2("", 700, 200), 500),
        (V2.format(above="/"), "0::/a", v2("a", "max", 7), None),
        (V1.format(above="/"), "4:cpu,memory:/k/p\n1:cpu:/z", v1("k/p", 900, 500, 50), 450),
        (V1.format(above="/docker/x"), "4:memory:/docker/x", v1("", 900, 500), 400),
        (V1.format(above="/") + V2.format(above="/"), "4:memory:/p\n0::/q", {**v1("p", 9, 5), **v2("q", 7, 6)}, 1),
        ("", "4:memory:/p\n0::/", {}, None),
    ],
    ids=["above", "own", "full", "mounted", "name space", "unlimited", "v1", "v1 mounted", "both", "not mounted"],
)
def test_what_is_free_is_the_least_of_the_groups(
    mounts: str, groups: str, files: dict[str, object], expected: int | None, tmp_path: Path
):
    assert group_bytes(laid_out(tmp_path, mounts, groups, files)) == expected


def test_a_system_without_groups_sets_no_limit(tmp_path: Path):
    assert group_bytes(tmp_path) is None


def test_available_memory_is_that_of_the_group(monkeypatch: pytest.MonkeyPatch):
    free = memory.available_bytes(torch.device("cpu"))
    monkeypatch.setattr(memory, "group_bytes", lambda: 300 << 20)
    assert memory.available_bytes(torch.device("cpu")) == 300 << 20 < free
    monkeypatch.setattr(memory, "group_bytes", lambda: 1 << 60)
    assert 0 < memory.available_bytes(torch.device("cpu")) < 1 << 60
