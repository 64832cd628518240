"""The folder of a study: its sets, and one line for everything that was computed, so that nothing is computed twice.

config.yaml   sets/PER_CLASS/FAMILY/NAME.safetensors   accuracies.jsonl   values.jsonl
report.json   report.html   correlations.csv   correlations.png   scatter.png   (predict)
report.json   table.md   table.html   rows.jsonl                                   (exact)
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from discrepancy.errors import InvalidInput
from experiments.config import Tree, changed, read
from experiments.folder import RunFolder
from experiments.studies.exact import Row
from experiments.studies.measuring import Measured
from objectives.storage import append_lines, holds, json_text, read_lines

__all__ = ["Lines", "StudyFolder"]

ACCURACIES = {"set": str, "accuracies": tuple[float, ...], "seconds": float, "test_examples": int}
VALUES = {"view": str, "discrepancy": str, **get_type_hints(Measured)}
"""Of what is read of a line."""


class Lines:
    """A file of JSON lines that only grows. A line that was cut off by a kill is forgotten.

    Args:
        types: of the entries that every line has, by name.
        only: whether a line has no other entries.
    """

    def __init__(self, path: Path, types: Mapping[str, Any] = MappingProxyType({}), only: bool = False) -> None:
        self.path, self.types, self.only = path, types, only

    def read(self) -> list[dict[str, Any]]:
        """Every whole line.

        Raises:
            InvalidInput: if the file cannot be read, or a line is damaged, or an entry of another type.
        """

        def is_whole(line: dict[str, Any]) -> bool:
            return holds(line, self.types) and (not self.only or line.keys() == self.types.keys())

        return read_lines(self.path, is_whole)

    def append(self, line: dict[str, Any]) -> None:
        """Write a line and wait until it is on the disk."""
        append_lines(self.path, [json_text(line)])


class StudyFolder(RunFolder):
    """The files of one study."""

    command = "study"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.accuracies = Lines(path / "accuracies.jsonl", ACCURACIES)
        self.values = Lines(path / "values.jsonl", VALUES)
        self.rows = Lines(path / "rows.jsonl", get_type_hints(Row), only=True)
        self.sets = path / "sets"
        self.report = path / "report.json"
        self.summary = path / "report.html"
        self.markdown = path / "table.md"
        self.page = path / "table.html"
        self.table = path / "correlations.csv"
        self.dots = path / "correlations.png"
        self.scatter = path / "scatter.png"

    @property
    def states(self) -> tuple[Path, ...]:
        return self.accuracies.path, self.values.path, self.rows.path, self.sets

    @property
    def written(self) -> tuple[Path, ...]:
        reports = self.report, self.summary, self.markdown, self.page, self.table, self.dots, self.scatter
        return self.config, *reports

    def set_file(self, key: str) -> Path:
        return self.sets / f"{key}.safetensors"

    def adopt(self, tree: Tree, growing: tuple[str, ...], free: tuple[str, ...]) -> None:
        """Write the configuration, unless what is here was computed under another one. Where nothing was computed yet, as
        after a mistake that was found once the data were read, any configuration may follow.

        Args:
            growing: maps to which entries may be added, and lists.
            free: keys that change nothing of what is stored.

        Raises:
            InvalidInput: with every difference that matters.
        """
        self.check_config()
        self.check_own()
        if self.config.exists() and any(path.exists() for path in self.states):
            found = changed(read(self.config), tree, growing, free)
            if found:
                raise InvalidInput(
                    f"'{self.path}' holds a study with another configuration: {'; '.join(found)}; run it as it was, add "
                    f"to {', '.join(growing)} only, or name another folder with --out"
                )
        self.write_config(tree)
