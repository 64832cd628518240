"""Configuration files: YAML 1.2 and TOML to plain trees, and back to YAML.

YAML 1.1 reads ``no`` as a boolean and ``1e-5`` as text; version 1.2 reads both as they look. Duplicate keys are errors.
"""

import io
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from experiments.config.mistakes import ConfigError, Mistake, join, received

__all__ = ["MOST_LEVELS", "Tree", "parse_value", "read", "write_yaml"]

Tree = dict[str, Any]
"""Mappings, lists and plain values, as a file holds them."""

MOST_BYTES, MOST_VALUES, MOST_LEVELS, MOST_DIGITS = 1 << 20, 20_000, 60, 300
"""What a configuration may have of them: bytes of the file, values with every alias replaced, levels, digits of a number."""


def read(path: str | Path | Traversable) -> Tree:
    """The mapping that a ``.yaml``, ``.yml`` or ``.toml`` file holds.

    Raises:
        ConfigError: if the file is missing, unreadable or malformed (with line and column), or holds no mapping.
    """
    source = Path(path) if isinstance(path, str) else path
    name = str(path)
    suffix = Path(source.name).suffix.lower()
    if suffix not in (".yaml", ".yml", ".toml"):
        raise _failure(name, f"a configuration file ends in .yaml, .yml or .toml, got '{source.name}'")
    try:
        if isinstance(source, Path) and source.exists() and not (source.is_file() or source.is_dir()):
            raise _failure(name, "is not a regular file")
        if isinstance(source, Path) and source.is_file() and source.stat().st_size > MOST_BYTES:
            raise _failure(name, f"is larger than {MOST_BYTES >> 20} MiB; a configuration is a short text")
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _failure(name, "no such file") from None
    except UnicodeDecodeError as error:
        raise _failure(name, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise _failure(name, f"cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise _failure("--", "the name of a file contains the character NUL, which no path can; correct it") from None
    try:
        tree = _toml(text) if suffix == ".toml" else _yaml(text)
    except ValueError as error:
        raise _failure(name, _sentence(str(error))) from None
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else f"holds {received(tree)}"
        raise _failure(name, f"{what}; a configuration is a mapping of keys to values")
    mistakes = list(_impure(tree, "", ()))
    if mistakes:
        raise ConfigError([Mistake(f"{name}: {mistake.path}", mistake.message) for mistake in mistakes])
    return tree


def parse_value(text: str) -> Any:
    """One YAML value, as on the right of ``--set key=value``; ValueError if it is none."""
    value = _yaml(text)
    for mistake in _impure(value, "", ()):
        raise ValueError(str(mistake))
    return value


def write_yaml(tree: Mapping[str, Any]) -> str:
    """The tree as YAML, keys in their order, the innermost collections on one line. It reads back equal."""
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.default_flow_style = None
    yaml.allow_unicode = True
    yaml.width = 110
    yaml.Representer = _Representer
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> Any:
        plain = data[:1].isalpha() and data.isprintable()  # else quoted, whether or not YAML needs it
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if plain else '"')


_Representer.add_representer(str, _Representer.represent_str)


def _toml(text: str) -> Any:
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    _check_extent(
        tree, lambda node: node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    )
    return tree


def _yaml(text: str) -> Any:
    """The value of a text, which is looked at before anything is made of it: an alias may stand for a tree of any size."""
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(io.StringIO(text))
        _check_extent(root, _children)
        return None if root is None else yaml.constructor.construct_document(root)
    except MarkedYAMLError as error:
        raise ValueError(f"{error.problem or error.context}{_at(error.problem_mark or error.context_mark)}") from None
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _at(mark: Any) -> str:
    return f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""


def _children(node: Any) -> Iterable[Any]:
    """The nodes inside a node of YAML.

    Raises:
        ValueError: for a tag that a configuration has no use for, or a value that is none of its tag.
    """
    if isinstance(node, ScalarNode):
        known = _SCALARS.get(str(node.tag))
        if known is None:
            if node.style is None and str(node.tag) in _IMPLICIT:
                return ()
            raise ValueError(f"could not determine a constructor for the tag '{node.tag}'{_at(node.start_mark)}")
        if not known(node.value):
            kind = str(node.tag).rpartition(":")[2]
            raise ValueError(f"'{node.value[:40]}' is not a value of the tag !!{kind}{_at(node.start_mark)}")
        return ()
    if not isinstance(node, CollectionNode):
        return ()
    if str(node.tag) not in _COLLECTIONS:
        raise ValueError(f"could not determine a constructor for the tag '{node.tag}'{_at(node.start_mark)}")
    return (item for pair in node.value for item in pair) if isinstance(node, MappingNode) else node.value


def _is_whole(text: str) -> bool:
    return (
        bool(re.fullmatch(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", text)) and len(text) <= MOST_DIGITS
    )


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?(\.inf|([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?)|\.nan", text.lower()))


_TAG = "tag:yaml.org,2002:"
_SCALARS: Mapping[str, Callable[[str], bool]] = {
    f"{_TAG}str": lambda text: True,
    f"{_TAG}null": lambda text: True,
    f"{_TAG}bool": lambda text: text.lower() in ("true", "false"),
    f"{_TAG}int": _is_whole,
    f"{_TAG}float": _is_number,
}
_IMPLICIT = (f"{_TAG}timestamp", f"{_TAG}merge", f"{_TAG}value")
"""Tags that a plain scalar may have without being given one."""
_COLLECTIONS = (f"{_TAG}map", f"{_TAG}seq")


def _check_extent(root: Any, children: Callable[[Any], Iterable[Any]]) -> None:
    """Refuse a tree that is too deep, or too large once every alias is replaced by what it stands for. What contains itself is
    left to :func:`_impure`.

    Raises:
        ValueError: saying which of the two.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[Any, Iterator[Any], list[int]]] = []

    def enter(node: Any) -> None:
        if len(stack) >= MOST_LEVELS:
            raise ValueError("is nested too deeply")
        open_nodes.add(id(node))
        stack.append((node, iter(children(node)), [1]))

    enter(root)
    while stack:
        node, rest, size = stack[-1]
        child = next(rest, _END)
        if child is _END:
            stack.pop()
            open_nodes.discard(id(node))
            sizes[id(node)] = size[0]
            if stack:
                stack[-1][2][0] += size[0]
        elif id(child) in sizes and not isinstance(child, str | int | float | bool | None):
            size[0] += sizes[id(child)]
        elif id(child) not in open_nodes:
            enter(child)
        if size[0] > MOST_VALUES:
            raise ValueError(
                f"holds more than {MOST_VALUES:,} values, once every alias is replaced by what it stands for"
            )


_END = object()


def _sentence(problem: str) -> str:
    """A parser's complaint in our words where it is a repeated key, else on one line."""
    place = re.search(r"\(at (.*?)\)$", problem)
    where = f"{place[1]}: " if place else ""
    repeated = re.match(r'found duplicate key "(.*?)" with', problem)
    if repeated:
        return f"{where}the key '{repeated[1]}' is given twice; keep one"
    if problem.startswith(("Cannot overwrite a value", "Cannot declare", "Duplicate inline table key")):
        return f"{where}a key is given twice; keep one"
    return where + " ".join(re.sub(r"\s*\(at .*?\)$", "", problem).split())


def _impure(node: Any, path: str, above: tuple[int, ...]) -> Any:
    """What YAML can write and a tree cannot hold: keys that are not text, and aliases that contain themselves."""
    if not isinstance(node, dict | list):
        return
    if id(node) in above:
        yield Mistake(path, "contains itself; an alias must not stand inside what it refers to")
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(node, dict) and not isinstance(key, str):
            yield Mistake(join(path, key), f"keys are text, got {received(key)}; put it in quotes")
        yield from _impure(value, join(path, key), (*above, id(node)))


def _failure(path: str, message: str) -> ConfigError:
    return ConfigError([Mistake(path, message)])
