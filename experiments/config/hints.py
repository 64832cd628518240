"""What the type hints of a class say about how it is written: its settings, and each hint in words."""

import importlib
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from discrepancy.parts import Part

__all__ = [
    "Setting",
    "alternatives",
    "is_leaf",
    "is_part",
    "is_plain_dataclass",
    "item_hints",
    "kinds_of",
    "named_hint",
    "register_kinds",
    "settings_of",
    "takes_mapping",
    "words",
]

_NOTHING = type(None)
_SINGULAR = {float: "a number", int: "a whole number", str: "text", bool: "true or false", _NOTHING: "nothing (null)"}
_PLURAL = {float: "numbers", int: "whole numbers", str: "texts", bool: "true or false"}


@dataclass(frozen=True, eq=False)
class Setting:
    """A field that a configuration may set."""

    name: str
    hint: Any
    default: Any
    """MISSING where the field is required."""

    @property
    def required(self) -> bool:
        return self.default is MISSING


@cache
def settings_of(cls: type) -> tuple[Setting, ...]:
    """The fields of a dataclass with their resolved hints, in order."""
    hints = get_type_hints(cls)
    return tuple(
        Setting(item.name, hints[item.name], _default(item))
        for item in fields(cls)  # pyright: ignore[reportArgumentType]
        if item.init
    )


def _default(item: Any) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def register_kinds() -> None:
    """Import the packages whose parts a configuration may name; kinds register themselves when they are declared."""
    import discrepancy.public  # noqa: F401

    for package in ("discrepancy", "objectives"):
        importlib.import_module(f"{package}.public")


def kinds_of(cls: type[Part]) -> dict[str, type[Part]]:
    """The kinds that a value of this class may have: those of its family that are subclasses of it."""
    register_kinds()
    return {kind: member for kind, member in sorted(cls.members.items()) if issubclass(member, cls)}


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union; any other hint is its own only alternative."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def is_leaf(hint: Any) -> bool:
    """Whether the hint is of single values: numbers, text, truth values, null, a literal."""
    return get_origin(hint) is Literal or (isinstance(hint, type) and hint in _SINGULAR)


def is_part(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Part)


def is_plain_dataclass(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint) and not issubclass(hint, Part)


def named_hint(hint: Any) -> Any | None:
    """T for ``tuple[tuple[str, T], ...]``, which is written as a map from names to T; None for all else."""
    if get_origin(hint) is not tuple:
        return None
    match get_args(hint):
        case (pair, types.EllipsisType()) if get_origin(pair) is tuple and len(get_args(pair)) == 2:
            name, item = get_args(pair)
            return item if name is str and item is not Ellipsis else None
    return None


def item_hints(hint: Any, length: int) -> tuple[Any, ...] | None:
    """The hints of the items of a tuple with so many of them; None if it cannot have so many."""
    arguments = get_args(hint)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return (arguments[0],) * length
    arguments = () if arguments == ((),) else arguments
    return arguments if len(arguments) == length else None


def takes_mapping(hint: Any) -> bool:
    """Whether some value of this hint is written as a mapping."""
    return any(not is_leaf(item) and (get_origin(item) is not tuple or named_hint(item)) for item in alternatives(hint))


def words(hint: Any) -> str:
    """The hint for a reader: ``a number or a length (median)``."""
    members = alternatives(hint)
    if len(members) > 1:
        told = [item for item in members if item is not int or float not in members]  # whole numbers are numbers
        ordered = sorted(told, key=lambda item: item is _NOTHING)
        return " or ".join(words(item) for item in ordered)
    if get_origin(hint) is Literal:
        options = [f"'{item}'" if isinstance(item, str) else str(item).lower() for item in get_args(hint)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    if is_leaf(hint):
        return _SINGULAR[hint]
    if is_part(hint):
        name = hint.family_name
        article = "an" if name[0] in "aeiou" else "a"
        return f"{article} {name} ({', '.join(kinds_of(hint)) or 'none is registered'})"
    if is_plain_dataclass(hint):
        return f"a mapping with the keys {', '.join(setting.name for setting in settings_of(hint))}"
    if (named := named_hint(hint)) is not None:
        return f"a mapping from names to {_plural(named)}"
    if get_origin(hint) is tuple:
        arguments = get_args(hint)
        open_ended = len(arguments) == 2 and arguments[1] is Ellipsis
        if open_ended:
            return f"a list of {_plural(arguments[0])}"
        return f"a list of {len(arguments)}{f' {_plural(arguments[0])}' if len(set(arguments)) == 1 else ''}"
    raise TypeError(
        f"the hint {hint} cannot be written in a configuration; use plain values, tuples, parts or dataclasses"
    )


def _plural(hint: Any) -> str:
    members = alternatives(hint)
    if not all(item in _PLURAL for item in members):
        return words(hint).removeprefix("one of ")
    return " or ".join(_PLURAL[item] for item in members if item is not int or float not in members)
