"""The folder of a study: its sets, and one line for everything that was computed, so that nothing is computed twice.

config.yaml   sets/PER_CLASS/FAMILY/NAME.safetensors   accuracies.jsonl   values.jsonl
report.json   report.html   correlations.csv   correlations.png   scatter.png   (predict)
report.json   table.md   table.html   rows.jsonl                                   (exact)
"""

import json
import os
from pathlib import Path
from typing import Any

from discrepancy.errors import InvalidInput
from experiments.config import Tree, changed, read, write_yaml
from experiments.folder import RunFolder
from objectives.storage import StorageError, json_text

__all__ = ["Lines", "StudyFolder"]


class Lines:
    """A file of JSON lines that only grows. A line that was cut off by a kill is forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Every whole line."""
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
        return lines

    def append(self, line: dict[str, Any]) -> None:
        """Write a line, on a line of its own even if the last one was cut off, and wait until it is on the disk."""
        try:
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")
                file.write(json_text(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"'{self.path}' could not be written ({error.strerror or error}); free space") from error


class StudyFolder(RunFolder):
    """The files of one study."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.accuracies = Lines(path / "accuracies.jsonl")
        self.values = Lines(path / "values.jsonl")
        self.sets = path / "sets"
        self.report = path / "report.json"
        self.summary = path / "report.html"
        self.markdown = path / "table.md"
        self.page = path / "table.html"
        self.table = path / "correlations.csv"
        self.dots = path / "correlations.png"
        self.scatter = path / "scatter.png"

    def set_file(self, key: str) -> Path:
        return self.sets / f"{key}.safetensors"

    def adopt(self, tree: Tree, growing: tuple[str, ...], free: tuple[str, ...]) -> None:
        """Write the configuration, unless what is here was computed under another one.

        Args:
            growing: maps to which entries may be added, and lists.
            free: keys that change nothing of what is stored.

        Raises:
            InvalidInput: with every difference that matters.
        """
        if self.config.exists():
            found = changed(read(self.config), tree, growing, free)
            if found:
                raise InvalidInput(
                    f"'{self.path}' holds a study with another configuration: {'; '.join(found)}; run it as it was, add "
                    f"to {', '.join(growing)} only, or name another folder with --out"
                )
        self.write_text(self.config, write_yaml(tree))
