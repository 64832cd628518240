"""Objects to plain trees, such that building the tree gives an equal object."""

import json
from collections.abc import Mapping
from typing import Any, get_origin

from discrepancy.errors import InvalidInput
from discrepancy.parts import Part
from experiments.config.builder import accepts_leaf, build
from experiments.config.hints import (
    Setting,
    alternatives,
    is_plain_dataclass,
    item_hints,
    kinds_of,
    named_hint,
    settings_of,
)
from experiments.config.mistakes import ConfigError

__all__ = ["completed", "dump", "dump_as"]


def dump(value: Any, defaults: bool = True) -> Any:
    """A part or dataclass as mappings, lists and plain values.

    Args:
        defaults: write every field, as a record needs it. Without, only what differs from its default, in the shortest
            spelling, as a reader likes it.
    """
    return dump_as(type(value), value, defaults)


def completed(type_: type[Any], tree: Any) -> Any:
    """A tree that ``dump`` wrote, maybe in an earlier version, as it would be written now: with the fields that have come
    since, at their defaults. The same tree where it can no longer be built."""
    try:
        return dump(build(type_, tree))
    except ConfigError:
        return tree


def dump_as(hint: Any, value: Any, defaults: bool) -> Any:
    """The value of a field with this hint."""
    if isinstance(value, Part):
        return _part(hint, value, defaults)
    if is_plain_dataclass(type(value)):
        return _settings(value, defaults)
    if isinstance(value, tuple):
        return _tuple(hint, value, defaults)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be written in a configuration")


def _tuple(hint: Any, value: tuple[Any, ...], defaults: bool) -> Any:
    for item in alternatives(hint):
        named = named_hint(item)
        if named is not None:
            tree = {name: dump_as(named, part, defaults) for name, part in value}
            if len(tree) < len(value):
                raise InvalidInput(f"names must differ, got {', '.join(name for name, _ in value)}")
            return tree
        hints = item_hints(item, len(value)) if get_origin(item) is tuple else None
        if hints is not None:
            return [dump_as(inner, part, defaults) for inner, part in zip(hints, value, strict=True)]
    raise TypeError(f"{value!r} does not fit its hint {hint}")


def _settings(value: Any, defaults: bool) -> dict[str, Any]:
    shown = settings_of(type(value))
    if not defaults:
        shown = [setting for setting in shown if not _is_default(setting, getattr(value, setting.name))]
    return {setting.name: dump_as(setting.hint, getattr(value, setting.name), defaults) for setting in shown}


def _is_default(setting: Setting, value: Any) -> bool:
    if setting.required or value != setting.default:
        return False
    written, default = (dump_as(setting.hint, item, True) for item in (value, setting.default))
    return json.dumps(written) == json.dumps(default)  # 1, 1.0 and true are equal, but not the same


def _part(hint: Any, value: Part, defaults: bool) -> Any:
    settings = _settings(value, defaults)
    if getattr(value, "tagged_by_field", False) and [key for key in settings if key in kinds_of(value.family)] == [
        value.kind
    ]:
        return settings
    if not defaults:
        if not settings and not accepts_leaf(hint, value.kind):
            return value.kind
        shorthand = getattr(value, "shorthand", None)
        if shorthand is not None and [*settings] == [shorthand] and not isinstance(settings[shorthand], Mapping):
            return {value.kind: settings[shorthand]}
    return {"kind": value.kind, **settings}
