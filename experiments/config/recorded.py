"""Objects from the metadata of a file that anybody may have made: never a reason to read or write another file."""

import shlex
from pathlib import Path
from typing import Any, TypeVar

from discrepancy.errors import InvalidInput
from discrepancy.parts import paths_in
from experiments.config.builder import build
from experiments.config.mistakes import ConfigError

__all__ = ["recorded"]

T = TypeVar("T")


def recorded(type_: type[T], tree: Any, file: str | Path, remedy: str) -> T:
    """What the metadata of a file describe.

    Args:
        file: for messages.
        remedy: what the user writes where it names another file or folder, whose path takes the place of ``{path}``.

    Raises:
        InvalidInput: if they do not describe such an object, or if it names a file or a folder.
    """
    try:
        built = build(type_, tree)
    except ConfigError as error:
        raise InvalidInput(
            f"the metadata of '{file}' cannot be used: {'; '.join(map(str, error.mistakes[:3]))}; make it again"
        ) from None
    found = next(paths_in(built), None)
    if found is not None:
        raise InvalidInput(
            f"the metadata of '{file}' name '{found}', and what a file names is not read or written unless you name it too: "
            f"{remedy.replace('{path}', shlex.quote(found))}"
        )
    return built
