"""Plain trees to objects: a walk over the hints of frozen dataclasses that collects every mistake before it gives up."""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import TypeAdapter

from discrepancy.errors import DiscrepancyError, nearest, suggestion
from discrepancy.parts import Part
from experiments.config.hints import (
    alternatives,
    is_leaf,
    is_part,
    is_plain_dataclass,
    item_hints,
    kinds_of,
    named_hint,
    settings_of,
    takes_mapping,
    words,
)
from experiments.config.mistakes import ConfigError, Mistake, join, listed, received
from experiments.config.spelling import settings_within

__all__ = ["accepts_leaf", "build"]

T = TypeVar("T")

LARGEST, LARGEST_SEED = 10**8, 2**63 - 1
"""The largest whole number that a field may have, unless its class has another one in ``largest``; and the largest seed."""


def build(type_: type[T], tree: Any, path: str = "") -> T:
    """The object of this type (a dataclass, a part, a family of parts) that the tree describes.

    A part is written ``{kind: k, field: value}``; as ``k`` alone, with all its defaults; or under its kind, as
    ``{k: {field: value}}`` or, where ``k`` declares a ``shorthand`` field, ``{k: value}``. Kinds of a family that is
    ``tagged_by_field`` are told by the key that has the kind's name.

    Settings without a kind, of a field that can have one kind only, change its default: what they do not name stays as it is
    there, and not as the kind alone would have it.

    Args:
        path: where the tree stands, for the report.

    Raises:
        ConfigError: with every mistake in the tree.
    """
    walk = _Walk()
    built = walk.value(type_, tree, path)
    if walk.mistakes:
        raise ConfigError(walk.mistakes)
    return built


def _elsewhere(cls: type, key: str) -> str:
    """``; kind: a has it``, with the other kinds of the family that have this field, where they are few."""
    if not issubclass(cls, Part):
        return ""
    others = [kind for kind, other in kinds_of(cls.family).items() if key in {item.name for item in settings_of(other)}]
    return f"; kind: {' or '.join(others)} has it" if 0 < len(others) <= 3 else ""


@functools.cache
def _adapter(hint: Any) -> Any:  # a TypeAdapter, whose own hint beartype cannot read
    return TypeAdapter(hint)


def _leaf(hint: Any, tree: Any) -> Any:
    """A single value, by JSON's rules: 1 is a number, true and "1" are not. ValueError or TypeError if it does not fit."""
    value = _adapter(hint).validate_json(json.dumps(tree), strict=True)
    if value != value:
        raise ValueError("not a number")
    return value


def accepts_leaf(hint: Any, tree: Any) -> bool:
    """Whether a single value fits the hint without being read as a part."""
    leaves = tuple(item for item in alternatives(hint) if is_leaf(item))
    try:
        _leaf(Union[leaves], tree)  # noqa: UP007  (built from a tuple)
    except (TypeError, ValueError):
        return False
    return True


class _Failed:
    """Stands for a value that could not be built; its mistakes are in the report."""


_FAILED = _Failed()


class _Walk:
    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def fail(self, path: str, message: str) -> Any:
        self.mistakes.append(Mistake(path, message))
        return _FAILED

    def value(self, hint: Any, tree: Any, path: str) -> Any:
        members = alternatives(hint)
        if isinstance(tree, str) and float in members and str not in members:
            tree = _of_fraction(tree)
        if all(is_leaf(item) for item in members):
            try:
                return _leaf(hint, tree)
            except (TypeError, ValueError):
                return self.unfit(hint, tree, path)
        if len(members) > 1:
            return self.union(hint, tree, path)
        if is_part(hint):
            return self.part(hint, tree, path)
        if is_plain_dataclass(hint):
            return self.settings(hint, tree, path) if isinstance(tree, Mapping) else self.unfit(hint, tree, path)
        if (named := named_hint(hint)) is not None:
            return self.named(hint, named, tree, path)
        if get_origin(hint) is tuple:
            return self.items(hint, tree, path)
        raise TypeError(f"'{path}' has the hint {hint}, which cannot be written in a configuration")

    def unfit(self, hint: Any, tree: Any, path: str) -> Any:
        advice = ""
        members = alternatives(hint)
        if isinstance(tree, str):
            options = [str(option) for item in members if get_origin(item) is Literal for option in get_args(item)]
            options += [kind for item in members if is_part(item) for kind in kinds_of(item)]
            advice = suggestion(tree, options)
            if not advice and {float, int} & set(members) and accepts_leaf(float, _number(tree)):
                advice = "; write it without quotes"
        elif str in members and not isinstance(tree, Mapping | list | None):
            advice = "; put it in quotes"
        return self.fail(path, f"expected {words(hint)}, got {received(tree)}{advice}")

    def union(self, hint: Any, tree: Any, path: str) -> Any:
        members = alternatives(hint)
        leaves = tuple(item for item in members if is_leaf(item))
        if leaves and accepts_leaf(hint, tree):
            return _leaf(Union[leaves], tree)  # noqa: UP007
        shaped = [item for item in members if not is_leaf(item) and _has_shape(item, tree)]
        only_text = isinstance(tree, str) and any(item is not type(None) for item in leaves)
        if len(shaped) > 1 or only_text:
            shaped = [item for item in shaped if not is_part(item) or _names_kind(item, tree)]
        attempts = [_Walk() for _ in shaped]
        built = [walk.value(item, tree, path) for walk, item in zip(attempts, shaped, strict=True)]
        for walk, value in zip(attempts, built, strict=True):
            if not walk.mistakes:
                return value
        if not attempts:
            return self.unfit(hint, tree, path)
        self.mistakes += attempts[0].mistakes
        return _FAILED

    def items(self, hint: Any, tree: Any, path: str) -> Any:
        hints = item_hints(hint, len(tree)) if isinstance(tree, list | tuple) else None
        if hints is None:
            return self.unfit(hint, tree, path)
        built = tuple(
            self.value(item, value, join(path, i)) for i, (item, value) in enumerate(zip(hints, tree, strict=True))
        )
        return _FAILED if any(item is _FAILED for item in built) else built

    def named(self, hint: Any, item: Any, tree: Any, path: str) -> Any:
        if not isinstance(tree, Mapping):
            return self.unfit(hint, tree, path)
        built = tuple((name, self.value(item, value, join(path, name))) for name, value in tree.items())
        return _FAILED if any(value is _FAILED for _, value in built) else built

    def settings(self, cls: type, tree: Mapping[str, Any], path: str, at: str | None = None, base: Any = None) -> Any:
        """An object of a dataclass from its fields, the others as in ``base``, or at their defaults; ``at`` is the path of the
        only one, when it was written in short."""
        known = {setting.name: setting for setting in settings_of(cls)}
        values: dict[str, Any] = {}
        meant: set[str | None] = set()
        for key, item in tree.items():
            if key in known:
                hint, place = known[key].hint, at or join(path, key)
                default = known[key].default if base is None else getattr(base, key)
                if _changes(default, hint, item):
                    values[key] = self.settings(type(default), item, place, base=default)
                else:
                    values[key] = self.bounded(cls, key, self.value(hint, item, place), place)
            else:
                meant.add(nearest(key, known))
                self.fail(join(path, key), f"unknown key{suggestion(key, known)} {listed(known)}{_elsewhere(cls, key)}")
        needed = known.values() if base is None else ()
        absent = [setting for setting in needed if setting.required and setting.name not in tree]
        for setting in absent:
            if setting.name not in meant:
                self.fail(join(path, setting.name), f"is missing; expected {words(setting.hint)}")
        if absent or any(value is _FAILED for value in values.values()):
            return _FAILED
        try:
            return cls(**values) if base is None else replace(base, **values)
        except DiscrepancyError as error:
            told = [str(mistake) for mistake in error.mistakes] if isinstance(error, ConfigError) else [str(error)]
            for message in told:
                guilty = re.match(r"'((\w+)[\w.+-]*)'", message)
                self.fail((at or join(path, guilty[1])) if guilty and guilty[2] in known else path, message)
            return _FAILED

    def bounded(self, cls: type, name: str, value: Any, path: str) -> Any:
        """The value, unless its class has a check that refuses it (which the class makes too, but only once all of its fields
        are there), or it holds a whole number that nothing could be planned with."""
        check = getattr(cls, "checks", {}).get(name)
        if check is not None and value is not _FAILED:
            try:
                check(value)
            except DiscrepancyError as error:
                return self.fail(path, str(error))
        numbers = [item for item in (value if isinstance(value, tuple) else (value,)) if type(item) is int]
        most = LARGEST_SEED if name == "seed" else getattr(cls, "largest", {}).get(name, LARGEST)
        wrong = [number for number in numbers if abs(number) > most]
        return self.fail(path, f"must be at most {most:,}, got {received(wrong[0])}") if wrong else value

    def part(self, hint: type[Part], tree: Any, path: str) -> Any:
        kinds = kinds_of(hint)
        if isinstance(tree, str):
            cls = self.kind(hint, tree, path)
            return self.settings(cls, {}, path) if cls else _FAILED
        if not isinstance(tree, Mapping):
            return self.unfit(hint, tree, path)
        if "kind" in tree:
            cls = self.kind(hint, tree["kind"], path)
            return (
                self.settings(cls, {key: item for key, item in tree.items() if key != "kind"}, path) if cls else _FAILED
            )
        if getattr(hint, "tagged_by_field", False):
            return self.tagged(hint, tree, path)
        present = [key for key in tree if key in kinds]
        if len(tree) == 1 and present:
            return self.spelled(kinds[present[0]], tree[present[0]], join(path, present[0]))
        if "kind" in vars(hint):
            return self.settings(hint, tree, path)
        if len(present) > 1:
            return self.fail(path, f"names several kinds, {_quoted(present)}; keep one")
        if present:
            return self.fail(path, f"the settings of '{present[0]}' belong inside it: {{kind: {present[0]}, ...}}")
        if len(tree) == 1:
            return self.fail(path, _unknown(hint, next(iter(tree))))
        return self.fail(path, f"'kind' is missing {listed(kinds)}")

    def kind(self, hint: type[Part], name: Any, path: str) -> type[Part] | None:
        cls = kinds_of(hint).get(name) if isinstance(name, str) else None
        if cls is None:
            self.fail(path, _unknown(hint, name))
        return cls

    def tagged(self, hint: type[Part], tree: Mapping[str, Any], path: str) -> Any:
        kinds = kinds_of(hint)
        present = [key for key in tree if key in kinds]
        if len(present) == 1:
            return self.settings(kinds[present[0]], tree, path)
        if present:
            return self.fail(path, f"has the keys {_quoted(present)}, of which it can have only one")
        close = [kind for key in tree if (kind := nearest(key, kinds))]
        advice = f"; did you mean '{close[0]}'?" if close else ""
        return self.fail(path, f"needs one of the keys {_quoted(kinds)}, got {received(tree)}{advice}")

    def spelled(self, cls: type[Part], tree: Any, path: str) -> Any:
        """``{kind: value}``: the fields of the kind, or its shorthand field."""
        found = settings_within(cls, tree)
        if found is None:
            known = [setting.name for setting in settings_of(cls)]
            return self.fail(path, f"expected a mapping of settings {listed(known)}, got {received(tree)}")
        settings, short = found
        return self.settings(cls, settings, path, at=path if short else None)


def _changes(default: Any, hint: Any, tree: Any) -> bool:
    """Whether these are settings without a kind for a field whose default is of the only kind that it can have: what they do
    not name stays as it is there."""
    return (
        isinstance(default, Part)
        and type(default) in alternatives(hint)
        and isinstance(tree, Mapping)
        and "kind" not in tree
        and not tree.keys() & kinds_of(type(default)).keys()
    )


def _unknown(hint: type[Part], name: Any) -> str:
    kinds = kinds_of(hint)
    family = hint.family_name
    if not isinstance(name, str):
        return f"the kind of {family} must be text, got {received(name)} {listed(kinds)}"
    return f"unknown kind '{name}' of {family}{suggestion(name, kinds)} {listed(kinds)}"


def _has_shape(hint: Any, tree: Any) -> bool:
    """Whether the hint and the tree agree on being a mapping, a list or a word."""
    if isinstance(tree, Mapping):
        return takes_mapping(hint)
    if isinstance(tree, list | tuple):
        return get_origin(hint) is tuple and named_hint(hint) is None
    return isinstance(tree, str) and is_part(hint)


def _names_kind(hint: type[Part], tree: Any) -> bool:
    """Whether the tree, text or mapping, names a kind of this family."""
    named = tree.get("kind", tree) if isinstance(tree, Mapping) else [tree]
    return any(name in kinds_of(hint) for name in ([named] if isinstance(named, str) else named))


def _of_fraction(text: str) -> str | float:
    """The number that a fraction such as 8/255 is; other text as it is."""
    if not re.fullmatch(r"\s*\d+(\.\d+)?\s*/\s*\d+(\.\d+)?\s*", text):
        return text
    above, below = map(float, text.split("/"))
    return above / below if below else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
