"""Methods by name: the packaged files, and what each says of its origin."""

from dataclasses import dataclass
from pathlib import Path

from discrepancy.errors import InvalidInput
from experiments.config import Tree, read
from experiments.config.mistakes import check_name, suggestion
from objectives.methods import available

__all__ = ["Method", "method_tree"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a configuration says of its origin; nothing of it changes what is computed."""

    name: str
    title: str = ""
    source: str = ""
    idea: str = ""
    published: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("name", self.name)


def method_tree(what: str) -> Tree:
    """What the file of a method says, of a packaged one by its name.

    Raises:
        InvalidInput: if it is neither the name of a method nor a file.
    """
    files = available()
    if what in files:
        return read(files[what])
    path = Path(what)
    if path.suffix in (".yaml", ".yml", ".toml") or path.exists():
        return read(path)
    raise InvalidInput(
        f"'{what}' is neither a method nor a file{suggestion(what, files)} (methods: {', '.join(files)})"
    )
