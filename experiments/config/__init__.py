"""Configurations: YAML or TOML files to objects and back, with every mistake of a file in one report.

    tree = merge(read("method.yaml"), override(read("mine.yaml"), ["solver.lr=0.5"]))
    run = build(Run, tree)

The objects are the configuration: parts and frozen dataclasses, whose type hints say what may be written. This is the only
place that knows how files are parsed and values are validated.
"""

from experiments.config.builder import build
from experiments.config.dumper import completed, dump
from experiments.config.files import Tree, read, write_yaml
from experiments.config.mistakes import ConfigError, Mistake
from experiments.config.parts import Kind, KnownField, known, load_parts, load_plugins
from experiments.config.recorded import recorded
from experiments.config.trees import changed, difference, merge, override

__all__ = [
    "ConfigError",
    "Kind",
    "KnownField",
    "Mistake",
    "Tree",
    "build",
    "changed",
    "completed",
    "difference",
    "dump",
    "known",
    "load_parts",
    "load_plugins",
    "merge",
    "override",
    "read",
    "recorded",
    "write_yaml",
]
