"""Configuration files: YAML 1.2 and TOML to plain trees, and back to YAML.

YAML 1.1 reads ``no`` as a boolean and ``1e-5`` as text; version 1.2 reads both as they look. Duplicate keys are errors.
"""

import io
import re
import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.representer import SafeRepresenter

from experiments.config.mistakes import ConfigError, Mistake, join, received

__all__ = ["Tree", "parse_value", "read", "write_yaml"]

Tree = dict[str, Any]
"""Mappings, lists and plain values, as a file holds them."""


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
        text = source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _failure(name, "no such file") from None
    except UnicodeDecodeError as error:
        raise _failure(name, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise _failure(name, f"cannot be read: {error.strerror or error}") from None
    try:
        tree = tomllib.loads(text) if suffix == ".toml" else _yaml(text)
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
    return _yaml(text)


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


def _yaml(text: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{error.problem or error.context}{where}") from None
    except YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


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
