"""Memory that Linux's control groups leave to this process: a container has less than the machine that it runs on."""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["group_bytes"]

FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""By version: the limit of a group, what its processes hold, and how much of that the kernel takes back at once."""


def group_bytes(root: Path = Path("/")) -> int | None:
    """What may still be allocated: the least over the groups of this process and those above them, of version 1 and 2. None
    where no group has a limit.

    Args:
        root: the folder in which ``proc`` and the mounted groups lie.
    """
    return min(
        (free for folder, version in _groups(root) if (free := _free(folder, *FILES[version])) is not None),
        default=None,
    )


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """The folders of the memory groups, each with its version, from the process's own upwards."""
    mounts = {}
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        kinds, places = kind.split(), place.split()
        if kinds[:1] == ["cgroup2"] or (kinds[:1] == ["cgroup"] and "memory" in kinds[-1].split(",")):
            mounts[2 if kinds[0] == "cgroup2" else 1] = places[3], root / places[4].lstrip("/")
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        version = 2 if not controllers else 1
        if version not in mounts or (controllers and "memory" not in controllers.split(",")):
            continue
        above, mount = mounts[version]
        # A path outside of what is mounted is that of another name space: the mounted group is then the process's own.
        own = Path(path).relative_to(above) if Path(path).is_relative_to(above) else Path()
        yield from ((mount / group, version) for group in (own, *own.parents) if (mount / group).is_dir())


def _free(folder: Path, limit: str, held: str, reclaimed: str) -> int | None:
    limits, used = _lines(folder / limit), _lines(folder / held)
    if not limits or not used or not limits[0].isdecimal():
        return None  # a group without the memory controller, or without a limit: "max"
    statistics = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
    return max(0, int(limits[0]) - int(used[0]) + int(statistics.get(reclaimed, 0)))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
