"""Configurations as plain trees of mappings, lists and values: merging, overriding and comparing, before any validation."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from discrepancy.parts import Part
from experiments.config.dumper import dump_as
from experiments.config.files import MOST_LEVELS, Tree, parse_value
from experiments.config.hints import Setting, alternatives
from experiments.config.mistakes import ConfigError, Mistake, join, received
from experiments.config.spelling import below, written_out

__all__ = ["changed", "difference", "merge", "override"]


def merge(base: Mapping[str, Any], over: Mapping[str, Any], hint: Any = None) -> Tree:
    """``base`` with ``over`` written onto it, mapping by mapping; all else, lists too, is replaced.

    A mapping that names another ``kind`` replaces the one below it: the settings of one kind mean nothing to another.

    Args:
        hint: what the tree describes. Parts may then be written in short, on both sides; and settings without a kind, where
            the base has nothing, change the default.
    """
    base, over = written_out(hint, base), written_out(hint, over)
    if "kind" in over and over["kind"] != base.get("kind"):
        return deepcopy(dict(over))
    merged = deepcopy(dict(base))
    for key, value in over.items():
        field, under = below(hint, base, key), merged.get(key)
        inner = None if field is None else field.hint
        if isinstance(value, Mapping):
            if isinstance(under, str):
                under = {"kind": under}
            elif under is None and "kind" not in written_out(inner, value):
                under = _default(field)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(under, value, inner)
        else:
            merged[key] = deepcopy(value)
    return merged


def _default(field: Setting | None) -> Tree | None:
    """The default of a field that can have several kinds, as a mapping; of one kind, the builder knows what is meant."""
    if field is None or not isinstance(field.default, Part) or type(field.default) in alternatives(field.hint):
        return None
    tree = dump_as(field.hint, field.default, False)
    return {"kind": tree} if isinstance(tree, str) else written_out(field.hint, tree)


def override(tree: Mapping[str, Any], assignments: Sequence[str], hint: Any = None) -> Tree:
    """``tree`` with each ``path.to.key=value`` applied in turn; the values are YAML.

    A number among the steps is a position in a list. Steps that do not exist become mappings, and a part written as the
    bare name of its kind gets room for settings.

    Args:
        hint: what the tree describes. Parts may then be written in short, and steps that do not exist stand for the default.

    Raises:
        ConfigError: with every assignment that cannot be read or applied.
    """
    changed, mistakes = deepcopy(dict(tree)), []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        steps = [step.strip() for step in path.split(".")]
        if len(steps) > MOST_LEVELS:
            mistakes.append(Mistake("--set", f"a path has at most {MOST_LEVELS} steps, got {len(steps)}"))
            continue
        if not equals or not all(steps):
            mistakes.append(Mistake("--set", f"expected path.to.key=value, got '{assignment}'"))
            continue
        try:
            changed = _assigned(hint, changed, steps, parse_value(text))
        except ValueError as error:
            mistakes.append(Mistake(f"--set {assignment}", str(error)))
    if mistakes:
        raise ConfigError(mistakes)
    return changed


def _assigned(hint: Any, node: Any, steps: Sequence[str], value: Any, place: str = "") -> Any:
    """The node, in which what lies at the end of the steps has this value."""
    if not steps:
        return value
    step, *rest = steps
    if isinstance(node, list):
        if not step.isdecimal() or int(step) >= len(node):
            raise ValueError(
                f"'{place}' is {received(node)}; expected a position from 0 to {len(node) - 1}, got '{step}'"
            )
        key: Any = int(step)
    elif isinstance(node, dict):
        node, key = node if step in node else written_out(hint, node), step
    else:
        raise ValueError(f"'{place}' is {received(node)} and has no keys")
    field = below(hint, node, key)
    inner = node[key] if isinstance(node, list) else node.get(key)
    if rest and isinstance(inner, str):
        inner = {"kind": inner}
    elif rest and inner is None:
        inner = (None if rest == ["kind"] else _default(field)) or {}
    node[key] = _assigned(None if field is None else field.hint, inner, rest, value, join(place, step))
    return node


def difference(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two trees differ, a line each: ``solver.lr: 1.0 -> 0.5``. The order of keys counts, as it does for named terms."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.get("kind") != b.get("kind"):
            return [_change(join(path, "kind"), a.get("kind", _ABSENT), b.get("kind", _ABSENT))]
        lines = [
            line
            for key in (*a, *(key for key in b if key not in a))
            for line in difference(a.get(key, _ABSENT), b.get(key, _ABSENT), join(path, key))
        ]
        if a.keys() == b.keys() and list(a) != list(b):
            lines.append(_change(path, f"order {', '.join(a)}", f"order {', '.join(b)}"))
        return lines
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str) and not isinstance(b, str):
        longest = max(len(a), len(b))
        x, y = ([*items, *[_ABSENT] * (longest - len(items))] for items in (a, b))
        return [line for index in range(longest) for line in difference(x[index], y[index], join(path, index))]
    same = a is b or (a == b and isinstance(a, bool) == isinstance(b, bool)) or (a != a and b != b)
    return [] if same else [_change(path, a, b)]


def changed(before: Tree, now: Tree, growing: Sequence[str] = (), free: Sequence[str] = ()) -> list[str]:
    """The difference of two configurations, but for what may change.

    Args:
        growing: maps and lists to which entries may be added.
        free: keys that may have any value.
    """
    return difference(_compared(before, before, growing, free), _compared(now, before, growing, free))


def _compared(tree: Tree, before: Tree, growing: Sequence[str], free: Sequence[str]) -> Tree:
    """What of a configuration must be as it was before: entries in the order that they had, without those that are new."""
    kept = {name: value for name, value in tree.items() if name not in free}
    for name in growing:
        old, new = before.get(name), tree.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            kept[name] = {key: new[key] for key in old if key in new}
        elif isinstance(old, list) and isinstance(new, list):
            kept[name] = [item for item in old if item in new]
    return kept


class _Absent:
    def __str__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()


def _change(path: str, a: Any, b: Any) -> str:
    change = f"{_shown(a)} -> {_shown(b)}"
    return f"{path}: {change}" if path else change


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, str | _Absent) else json.dumps(value, ensure_ascii=False, default=str)
