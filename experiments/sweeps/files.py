"""Sweep files: those that come with the package, and how a sweep is read from one."""

from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from discrepancy.errors import InvalidInput
from experiments.config import ConfigError, Mistake, Tree, build, merge, override, read
from experiments.config.mistakes import suggestion
from experiments.sweeps.cells import cells_of
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.sweep import Sweep

__all__ = ["available", "read_sweep"]

NEEDED, NAMED = ("data", "per_class"), ("methods", "portions")
"""Entries of a sweep without which it has no cells, and those that hold several by name."""


def available() -> dict[str, Traversable]:
    """The sweep files that come with the package, by name."""
    files = (item for item in resources.files("experiments.sweeps").iterdir() if item.name.endswith(".yaml"))
    named = {item.name.removesuffix(".yaml"): item for item in files if item.name != "published.yaml"}
    return dict(sorted(named.items()))


def read_sweep(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    root: str | None = None,
    seed: int | None = None,
    device: str | None = None,
    changes: Sequence[str] = (),
) -> Sweep:
    """The sweep of a file, or of a folder that holds one already.

    Args:
        file: a sweep file, or the name of a packaged one; without it, the configuration in ``out`` is read.
        out: the folder of a sweep that is continued; where the data lie is taken from its configuration, unless ``root`` says
            something else.
        root, seed, device: in place of those of the file.
        changes: ``path=value`` assignments, which take precedence over everything else.

    Raises:
        InvalidInput: if there is no such file.
        ConfigError: with every mistake of the configuration, and of the cells of what is right in it.
    """
    config = None if out is None else SweepFolder(Path(out)).config
    if file is not None:
        tree = _with_paths(*_found(str(file)))
    elif config is not None and config.exists():
        tree = read(config)
    else:
        why = "" if out is None else f"'{out}' holds no sweep; "
        raise InvalidInput(f"{why}name a sweep file, or one of: {', '.join(available())}")
    kept: Tree = {}
    if config is not None and config.exists():
        kept = {name: value for name, value in read(config).items() if name == "root"}
    given = {"root": root, "seed": seed, "device": device}
    kept |= {name: value for name, value in given.items() if value is not None}
    return _built(override(merge(tree, kept), changes, Sweep))


def _built(tree: Tree) -> Sweep:
    """The sweep; a part that is wrong is left out, to find what is wrong with the others, and with the cells."""
    rest = {name: dict(item) if isinstance(item, dict) else item for name, item in tree.items()}
    found, wrong = None, list[Mistake]()
    while found is None:
        try:
            found = build(Sweep, rest)
        except ConfigError as error:
            more = [mistake for mistake in error.mistakes if mistake not in wrong]
            wrong += more
            places = [mistake.path.partition(".")[::2] for mistake in more]
            if not places or any(first in NEEDED for first, _ in places):
                raise ConfigError(wrong) from error
            for first, below in places:
                of = rest[first] if first in NAMED and below and isinstance(rest.get(first), dict) else rest
                of.pop(first if of is rest else below.partition(".")[0], None)
            if tree.get("methods") and not rest.get("methods"):  # without any, nothing more can be found
                raise ConfigError(wrong) from error
            rest.setdefault("controls", [])  # those of no file might be in the way of its methods
    if not wrong:
        return found
    try:
        cells_of(found)
    except ConfigError as error:
        wrong += error.mistakes
    raise ConfigError(wrong)


def _found(text: str) -> tuple[Tree, Path]:
    files = available()
    if text in files:
        return read(files[text]), Path()
    path = Path(text)
    if path.suffix in (".yaml", ".yml", ".toml") or path.exists():
        return read(path), path.parent
    known = ", ".join(files)
    raise InvalidInput(f"'{text}' is neither a sweep nor a file{suggestion(text, files)} (sweeps: {known})")


def _with_paths(tree: Tree, base: Path) -> Tree:
    """The paths of methods and protocols, which are relative to the sweep file, made absolute."""

    def located(text: Any) -> Any:
        there = isinstance(text, str) and Path(text).suffix in (".yaml", ".yml", ".toml") and (base / text).exists()
        return str((base / text).resolve()) if there else text

    tree = dict(tree)
    methods = tree.get("methods")
    if isinstance(methods, dict):
        tree["methods"] = {
            name: {**item, "method": located(item["method"])} if isinstance(item, dict) and "method" in item else item
            for name, item in methods.items()
        }
    protocol = tree.get("protocol")
    if isinstance(protocol, dict) and "name" in protocol:
        tree["protocol"] = {**protocol, "name": located(protocol["name"])}
    elif protocol is not None:
        tree["protocol"] = located(protocol)
    return tree
