"""The parts that a configuration may name: those of the packages, of installed plug-ins and of a user's own files."""

import hashlib
import importlib
import re
import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, NamedTuple

from discrepancy.parts import FAMILIES, Part
from experiments.config.dumper import dump_as
from experiments.config.hints import kinds_of, register_kinds, settings_of, words
from experiments.config.mistakes import ConfigError, Mistake

__all__ = ["Kind", "KnownField", "known", "load_parts", "load_plugins"]

GROUP = "discrepancy.parts"

ROOMS = ("experiments.data", "experiments.evaluate", "experiments.studies")
"""Where ``experiments`` declares families of its own, which are imported only with them."""


class KnownField(NamedTuple):
    """A field of a kind, its values in words, and its default as a configuration would write it."""

    name: str
    values: str
    required: bool
    default: Any


class Kind(NamedTuple):
    """A registered kind, the first sentence of its docstring, and its fields."""

    kind: str
    summary: str
    fields: tuple[KnownField, ...]


def known() -> dict[str, list[Kind]]:
    """Every registered kind by family, in alphabetical order."""
    register_kinds()
    for name in ROOMS:
        importlib.import_module(name)
    return {name: [_kind(cls) for cls in kinds_of(family).values()] for name, family in sorted(FAMILIES.items())}


def _kind(cls: type[Part]) -> Kind:
    text = cls.__doc__ or ""
    generated = text.startswith(f"{cls.__name__}(")  # what dataclass writes where there is no docstring
    fields = tuple(
        KnownField(
            item.name,
            words(item.hint),
            item.required,
            None if item.required else dump_as(item.hint, item.default, False),
        )
        for item in settings_of(cls)
    )
    return Kind(cls.kind, "" if generated else _first_sentence(text), fields)


def _first_sentence(docstring: str) -> str:
    paragraph = " ".join(docstring.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph, maxsplit=1)[0].rstrip(",:")


def load_plugins() -> None:
    """Import what installed distributions offer under the entry point group ``discrepancy.parts``.

    Raises:
        ConfigError: with a line for each one that fails.
    """
    mistakes = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            owner = f" of {entry.dist.name}" if entry.dist else ""
            mistakes.append(Mistake(f"plug-in '{entry.name}'{owner}", f"{_cause(error)}; repair or uninstall it"))
    if mistakes:
        raise ConfigError(mistakes)


def load_parts(path: str | Path) -> None:
    """Execute a Python file, so that the parts it declares can be named. A file that was executed already is left alone.

    Raises:
        ConfigError: if the file is missing or raises; with the line and the cause.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError([Mistake(str(path), "no such file; --import takes the path of a Python file")])
    where = str(file.resolve())
    name = f"discrepancy_parts_{hashlib.sha256(where.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return
    loader = SourceFileLoader(name, where)
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module there
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError([Mistake(str(path), _cause(error, where))]) from error


def _cause(error: BaseException, file: str | None = None) -> str:
    """The error on one line, with the last line of ``file`` that led to it."""
    if isinstance(error, SyntaxError):
        line, text = (error.lineno if error.filename == file else None), error.msg
    else:
        frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line, text = (frames[-1] if frames else None), " ".join(str(error).split())
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}{f': {text}' if text else ''}"
