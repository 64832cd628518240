"""Parts: frozen values that name themselves, and so can be written in a configuration file.

A *family* is a role (Kernel, Discrepancy, Embedding, ...); a *kind* is one way to play it. Declaring

    class Gaussian(Kernel, kind="gaussian"):
        lengthscale: float = 1.0

makes a frozen, keyword-only dataclass, and registers it, so that ``{kind: gaussian, lengthscale: 2}`` builds the same
object in YAML, in TOML and in Python. The object is the configuration: there are no twin classes. Parts hold plain values
only (numbers, strings, tuples, other parts), compare by value and are hashable, so they serve as keys of caches.

A class is either an interface or final. An abstract class between a family and its kinds opens no new family; only the
flag ``family=True`` does.
"""

import functools
import numbers
import os
import re
import types
from abc import ABC
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, dataclass_transform, get_args, get_origin, get_type_hints

from discrepancy.errors import InvalidInput

__all__ = [
    "FAMILIES",
    "Part",
    "check_choice",
    "check_least",
    "explain_failures",
    "fits",
    "named",
    "parts_in",
    "paths_in",
    "shown",
    "user_path",
    "word",
]

FAMILIES: dict[str, type["Part"]] = {}
"""Every family by its name, such as ``weight_schedule`` for ``WeightSchedule``."""

PACKAGES = ("discrepancy", "objectives", "experiments")
"""What is imported of this distribution."""

LONGEST_NAME, LONGEST_PATH = 255, 4000
"""Bytes of a file's name, and characters of its path, that Linux takes."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
class Part(ABC):
    """A value that knows its family and its kind. Subclass a family with ``kind="name"`` to add one."""

    kind: ClassVar[str]
    family: ClassVar[type["Part"]]
    family_name: ClassVar[str]
    members: ClassVar[dict[str, type["Part"]]]
    paths: ClassVar[tuple[str, ...]] = ()
    """The fields that name files or folders."""
    largest: ClassVar[Mapping[str, int]] = {}
    """The largest values that a configuration may give to fields of whole numbers, where they are less than 100 million."""

    def __init_subclass__(cls, *, kind: str | None = None, family: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if family:
            cls.family, cls.members = cls, {}
            cls.family_name = re.sub(r"\B(?=[A-Z])", "_", cls.__name__).lower()
            FAMILIES[cls.family_name] = cls
        if "__post_init__" in cls.__dict__:
            setattr(cls, "__post_init__", _after_check(cls.__dict__["__post_init__"]))  # noqa: B010  (not this signature)
        if kind is None:
            return
        taken = cls.members.get(kind)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"the kind '{kind}' of {cls.family.__name__} is already {taken.__module__}.{taken.__qualname__}; "
                f"choose another name"
            )
        cls.kind = kind
        dataclass(frozen=True, kw_only=True)(cls)
        cls.members[kind] = cls

    def __post_init__(self) -> None:
        """Refuses a field of another family, or a name, where a part belongs, and values of another type than the field's; runs
        before the checks of a kind's own. A list becomes the tuple that is asked for."""
        for name, accepted, plain_too in _part_fields(type(self)):
            value = getattr(self, name)
            if not isinstance(value, accepted) and (isinstance(value, Part | str) or not plain_too):
                words = ["None" if item is types.NoneType else item.__name__ for item in accepted]
                expected = " or ".join([*words, *(["a number"] if plain_too else [])])
                kinds = [item.members.get(str(value)) for item in accepted if issubclass(item, Part)]
                named = [kind.__name__ for kind in kinds if kind is not None]
                remedy = f"; write {named[0]}(...)" if named else ""
                raise InvalidInput(f"'{name}' of '{self.kind}' must be of type {expected}, got {value!r}{remedy}")
        for name, hint in _hints(type(self)):
            value = getattr(self, name)
            if isinstance(value, list) and any(get_origin(member) is tuple for member in _members(hint)):
                object.__setattr__(self, name, value := tuple(value))
            if not fits(value, hint):
                words = " or ".join(dict.fromkeys(word(member) for member in _members(hint)))
                raise InvalidInput(f"'{name}' of '{self.kind}' must be {words}, got {shown(value)}")

    @property
    def packaged(self) -> bool:
        """Whether its code, without that of the parts that it holds, is of this distribution or of one that it requires."""
        return type(self).__module__.partition(".")[0] in PACKAGES

    def describe(self) -> dict[str, Any]:
        """This part as plain data: the ``kind``, and every field that differs from its default."""
        shown: dict[str, Any] = {"kind": self.kind}
        for item in fields(self):  # pyright: ignore[reportArgumentType]  (every kind is a dataclass)
            value = getattr(self, item.name)
            if value != item.default:
                shown[item.name] = plain(value)
        return shown


def _after_check(check: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(check)
    def checked(self: Any) -> None:
        Part.__post_init__(self)
        check(self)

    return checked


def explain_failures(cls: type[Part], check: Callable[..., None]) -> None:
    """Where a call of this class fails, ``check`` is asked first whether its arguments were to blame, and raises if so. A call
    that succeeds costs no checks."""
    call = vars(cls).get("__call__")
    if call is None:
        return

    @functools.wraps(call)
    def called(*args: Any, **named: Any) -> Any:
        try:
            return call(*args, **named)
        except Exception:
            check(*args, **named)
            raise

    setattr(cls, "__call__", called)  # noqa: B010  (of another signature)


@functools.cache
def _part_fields(cls: type[Part]) -> tuple[tuple[str, tuple[type, ...], bool], ...]:
    """The fields that hold a part: the name, the classes that it may be of, and whether it may be a number or the like too."""
    hints, found = get_type_hints(cls), []
    for item in fields(cls):  # pyright: ignore[reportArgumentType]
        hint = hints[item.name]
        members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        accepted = [member for member in members if isinstance(member, type) and issubclass(member, Part)]
        if accepted:
            rest = [member for member in members if member not in accepted]
            accepted += [types.NoneType] if types.NoneType in rest else []
            accepted += [str] if any(member is str or get_origin(member) is Literal for member in rest) else []
            found.append((item.name, tuple(accepted), any(member not in accepted for member in rest)))
    return tuple(found)


@functools.cache
def _hints(cls: type[Part]) -> tuple[tuple[str, Any], ...]:
    """The fields and their types."""
    hints = get_type_hints(cls)
    return tuple((item.name, hints[item.name]) for item in fields(cls))  # pyright: ignore[reportArgumentType]


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union; of anything else that alone."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, as far as plain values go: whole numbers are numbers, truth values are not, and a mapping
    stands for pairs. Which strings, and which numbers, is for the kind to say."""
    origin, within = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, member) for member in within)
    if origin is Literal:
        return any(fits(value, type(choice)) for choice in within)
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    if origin is tuple:
        items = tuple(value.items()) if isinstance(value, Mapping) else value
        if not isinstance(items, tuple | list) or (within[-1] is not Ellipsis and len(items) != len(within)):
            return False
        each = within[:1] * len(items) if within[-1] is Ellipsis else within
        return all(fits(item, member) for item, member in zip(items, each, strict=True))
    if within and isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else None
        return pairs is not None and all(fits(name, within[0]) and fits(item, within[1]) for name, item in pairs)
    if origin is Sequence:
        of = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return of and all(fits(item, within[0]) for item in value)
    plain_type = origin or hint
    return isinstance(value, plain_type) if isinstance(plain_type, type) else True


def word(hint: Any) -> str:
    """A type in words, for messages."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text", types.NoneType: "None"}
    if get_origin(hint) is Sequence:
        return f"a list, each {word(get_args(hint)[0])}"
    name = getattr(get_origin(hint) or hint, "__name__", str(hint))
    return words.get(hint, "a tuple" if name == "tuple" else f"of type {name}")


def shown(value: Any) -> str:
    """A short value as it is, a long one by its type."""
    shown = repr(value)
    return shown if len(shown) <= 60 and "\n" not in shown else f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """``value`` with parts as mappings and tuples as lists, inside of mappings too, ready for YAML or JSON."""
    if isinstance(value, Part):
        return value.describe()
    if isinstance(value, tuple):
        if value and all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in value):
            return {name: plain(item) for name, item in value}
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return value


def parts_in(value: Any) -> Iterator[Part]:
    """A part, and those that it holds; of a tuple or another dataclass those that it holds."""
    if isinstance(value, tuple):
        for item in value:
            yield from parts_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Part):
            yield value
        for item in fields(value):
            yield from parts_in(getattr(value, item.name))


def paths_in(value: Any) -> Iterator[str]:
    """The files and folders that these parts name."""
    for part in parts_in(value):
        for name in part.paths:
            held = getattr(part, name)
            yield from ([held] if isinstance(held, str) else held or ())


def named(value: Any) -> tuple[tuple[str, Any], ...]:
    """A mapping as pairs (name, value), which can be hashed; pairs stay as they are."""
    return tuple(value.items() if isinstance(value, Mapping) else value)


def check_least(name: str, value: int, least: int) -> None:
    """Refuses a ``value`` below ``least``."""
    if value < least:
        raise InvalidInput(f"'{name}' must be at least {least}, got {value}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuses a ``value`` that is none of the ``choices``."""
    if value not in choices:
        raise InvalidInput(f"'{name}' must be one of {', '.join(choices)}; got '{value}'")


def user_path(name: str, text: str | Path) -> Path:
    """The path that a user wrote for ``name``, with ``~`` replaced by the home folder. Nothing is looked up on the disk.

    Raises:
        InvalidInput: for what can be no path on any system: an unknown home folder, a NUL, a name of more than 255 bytes; and
            for values of other types.
    """
    if not isinstance(text, str | os.PathLike):
        raise InvalidInput(f"'{name}' must be the path of a file or folder, got a {type(text).__name__}")
    written = str(text)
    try:
        path = Path(written).expanduser()
    except RuntimeError:
        raise InvalidInput(
            f"'{name}' begins with '{Path(written).parts[0]}', a user that this system does not know; write the path in full"
        ) from None
    if "\0" in written:
        raise InvalidInput(f"'{name}' contains the character NUL, which no path can; correct it")
    longest = max((len(part.encode("utf-8", "surrogateescape")) for part in path.parts), default=0)
    if longest > LONGEST_NAME or len(written) > LONGEST_PATH:
        raise InvalidInput(
            f"'{name}' has a name of {longest} bytes in a path of {len(written)} characters; systems take {LONGEST_NAME} and "
            f"{LONGEST_PATH}"
        )
    return path
