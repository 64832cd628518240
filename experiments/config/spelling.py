"""Parts that are written in short, and written out: ``{grey: {level: 1}}`` and ``{grey: 1}`` are ``{kind: grey, level: 1}``.

Changes of a configuration name fields by their path, whichever way the file is spelled.
"""

from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any, get_origin

from discrepancy.parts import Part
from experiments.config.hints import (
    Setting,
    alternatives,
    is_part,
    is_plain_dataclass,
    item_hints,
    kinds_of,
    named_hint,
    settings_of,
    takes_mapping,
)

__all__ = ["below", "settings_within", "written_out"]


def settings_within(cls: type[Part], tree: Any) -> tuple[Mapping[str, Any], bool] | None:
    """The settings of a kind that is written ``{kind: tree}``, and whether they are those of its shorthand field alone; None if
    the tree is none."""
    known = {setting.name: setting for setting in settings_of(cls)}
    shorthand = getattr(cls, "shorthand", None)
    if isinstance(tree, Mapping):
        inner = shorthand is not None and takes_mapping(known[shorthand].hint) and not tree.keys() & known.keys()
        if not inner or not tree:
            return tree, False
    if shorthand is None:
        return ({}, False) if tree is None else None
    return {shorthand: tree}, True


def written_out(hint: Any, tree: Any) -> Any:
    """A part with ``kind`` among its keys, where it is a mapping that names its kind in another way; else what it was."""
    if not isinstance(tree, Mapping) or "kind" in tree or len(tree) != 1:
        return tree
    cls = _kind(hint, tree)
    name = next(iter(tree))
    found = settings_within(cls, tree[name]) if cls is not None and name == cls.kind else None
    return tree if found is None or getattr(cls, "tagged_by_field", False) else {"kind": name, **found[0]}


def below(hint: Any, tree: Any, key: Any) -> Setting | None:
    """The field of this key, in what a tree of this hint describes; of a map or a list, one of its items."""
    cls = _kind(hint, tree) or next((item for item in alternatives(hint) if is_plain_dataclass(item)), None)
    if cls is not None:
        return next((setting for setting in settings_of(cls) if setting.name == key), None)
    for item in alternatives(hint):
        if isinstance(tree, Mapping) and (named := named_hint(item)) is not None:
            return Setting(str(key), named, MISSING)
        if isinstance(tree, list) and get_origin(item) is tuple and (hints := item_hints(item, len(tree))):
            return Setting(str(key), hints[int(key)], MISSING)
    return None


def _kind(hint: Any, tree: Any) -> type[Part] | None:
    """The kind that a tree names, of those that the hint allows."""
    for item in filter(is_part, alternatives(hint)):
        kinds = kinds_of(item)
        name = tree.get("kind") if isinstance(tree, Mapping) else tree
        if isinstance(name, str):
            if name in kinds:
                return kinds[name]
            continue
        present = [key for key in tree if key in kinds] if isinstance(tree, Mapping) else []
        if len(present) == 1 and (len(tree) == 1 or getattr(item, "tagged_by_field", False)):
            return kinds[present[0]]
        if "kind" in vars(item):
            return item
    return None
