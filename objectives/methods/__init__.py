"""Published methods as data: one YAML file each, in this folder. A method is a choice of embedding, discrepancy, grouping,
context, parameterisation and solver; its source, its published settings and its oddities are written in the file."""

from importlib import resources
from importlib.resources.abc import Traversable

__all__ = ["available"]


def available() -> dict[str, Traversable]:
    """The files of the packaged methods, by name."""
    files = (item for item in resources.files(__name__).iterdir() if item.name.endswith(".yaml"))
    return {item.name.removesuffix(".yaml"): item for item in sorted(files, key=lambda item: item.name)}
