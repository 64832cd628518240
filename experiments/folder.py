"""The run folder: configuration, metrics, checkpoint, pictures and result; one run at a time.

    config.yaml   metrics.jsonl   checkpoint.pt   result.safetensors   result.png   losses.png

and result.teacher.safetensors, where a teacher has labelled the result; release.safetensors, where the data are private: the
noisy sums that were paid for.

Everything that matters is written to a temporary name and renamed, so a kill at any moment loses at most the steps since the
last checkpoint. Metrics are written before the checkpoint that counts their steps.
"""

import contextlib
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from discrepancy.errors import InvalidInput
from experiments.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from experiments.config import write_yaml
from experiments.locking import locked_folder
from experiments.metrics import read_metrics
from experiments.teaching import beside
from objectives.storage import StorageError, append_lines, json_text, remove_leftovers, write_text

__all__ = ["RunFolder", "artefact_path", "is_run_folder"]

OPTIONS = "# condense; options of a resume:"
"""How the first line of a configuration begins that a command has written into its folder."""


def artefact_path(path: str | Path) -> Path:
    """The file of an artefact: that of the result, where a run folder is named.

    Raises:
        InvalidInput: if the run of the folder is not finished, or the folder holds none.
    """
    folder = RunFolder(Path(path))
    if not folder.path.is_dir() or folder.result.exists():
        return folder.result if folder.path.is_dir() else folder.path
    if folder.config.exists():
        raise InvalidInput(f"the run in '{path}' is not finished; finish it with: {folder.continuation()}")
    raise InvalidInput(f"the folder '{path}' holds no {folder.result.name}; name a run folder, or an artefact")


def is_run_folder(path: str | Path) -> bool:
    """Whether a folder was made by ``condense run``, and not, say, a folder of images."""
    folder = RunFolder(Path(path))
    return folder.result.exists() or (folder.config.exists() and folder.checkpoint.exists())


class RunFolder:
    """The files of one run."""

    command = "run"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.release = path / "release.safetensors"
        self.result = path / "result.safetensors"
        self.teacher = beside(self.result)
        self.picture = path / "result.png"
        self.curves = path / "losses.png"
        self._pending: list[str] = []
        self._is_held: Callable[[], bool] = lambda: True

    @contextlib.contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[None]:
        """Make the folder and hold it; what killed processes have left of files that they were writing is removed.

        Args:
            patience: seconds to wait for another run that holds it.

        Raises:
            StorageError: if it cannot be made or written to.
            InvalidInput: if another run holds it.
        """
        with contextlib.ExitStack() as stack:
            try:
                self._is_held = stack.enter_context(locked_folder(self.path, patience))
            except TimeoutError:
                raise InvalidInput(
                    f"'{self.path}' is in use by another run; wait for it, or name another folder with --out"
                ) from None
            except OSError as error:
                raise StorageError(
                    f"'{self.path}' cannot be used as a run folder ({error.strerror or error}); name another with --out"
                ) from error
            remove_leftovers(self.path)
            yield

    # --- what is there ------------------------------------------------------------------------------------------------

    def write_config(self, tree: Mapping[str, Any], options: str = "") -> None:
        """Write the configuration.

        Args:
            options: what beside it must be said again on the command line to continue.
        """
        write_text(self.config, f"{OPTIONS}{options}\n{write_yaml(tree)}")

    def continuation(self, options: str = "") -> str:
        """The command that continues what is in the folder.

        Args:
            options: what is to be said again; by default what was when the configuration was written.
        """
        return f"condense {self.command} --out {shlex.quote(str(self.path))} --resume{options or self._options or ''}"

    @property
    def _options(self) -> str | None:
        """The options in the first line of the configuration; None where no command has written it."""
        try:
            with self.config.open(encoding="utf-8", errors="replace") as file:
                first = file.readline().rstrip("\n")
        except OSError:
            return None
        return first.removeprefix(OPTIONS) if first.startswith(OPTIONS) else None

    def check_own(self) -> None:
        """Refuse a folder that holds files of other origin under the names that are written here.

        Raises:
            InvalidInput: naming such a file.
        """
        if self._options is not None or any(path.exists() for path in self.states):
            return
        for path in self.written:
            if path.exists():
                raise InvalidInput(
                    f"'{path}' exists already and is not a file of a {self.command}; name another folder with --out"
                )

    def check_config(self) -> None:
        """Refuse a folder whose configuration is lost: what it holds could belong to any.

        Raises:
            InvalidInput: if the command has left something there, and the configuration is missing.
        """
        if not self.config.exists() and any(path.exists() for path in self.states):
            raise InvalidInput(
                f"'{self.path}' holds a {self.command}, but its {self.config.name} is lost; restore it, or name another folder "
                "with --out"
            )

    @property
    def states(self) -> tuple[Path, ...]:
        """Files that only the command itself leaves."""
        return self.checkpoint, self.release, self.result

    @property
    def written(self) -> tuple[Path, ...]:
        """Files that are overwritten."""
        return self.config, self.metrics, self.picture, self.curves, self.teacher

    # --- metrics ------------------------------------------------------------------------------------------------------

    def measured(self, step: int, loss: float, terms: dict[str, float], seconds: float) -> None:
        """Note one step; it is written with the next checkpoint."""
        self._pending.append(json_text({"step": step, "loss": loss, "terms": terms, "seconds": round(seconds, 3)}))

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resumed run will do again, and a line that was cut off.

        Raises:
            InvalidInput: if another line is damaged.
        """
        if self.metrics.exists():
            kept = [json_text(line) + "\n" for line in read_metrics(self.metrics) if line["step"] < step]
            write_text(self.metrics, "".join(kept))

    # --- checkpoint ---------------------------------------------------------------------------------------------------

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the metrics that were noted, then the checkpoint.

        Raises:
            StorageError: if they cannot be written, or the folder is no longer the one that was locked.
        """
        self.check_held()
        if self._pending:
            append_lines(self.metrics, self._pending)
            self._pending = []
        write_checkpoint(checkpoint, self.checkpoint)

    def check_held(self) -> None:
        """Refuse to write into a folder that was removed, or replaced, while this run held it."""
        if not self._is_held():
            raise StorageError(
                f"'{self.path}' was removed or replaced while it was in use; restore it and resume, or start anew in another "
                "folder"
            )

    def load(self, device: torch.device) -> Checkpoint:
        """The checkpoint.

        Raises:
            InvalidInput: if it is damaged, of another version, or of another number of threads.
        """
        return read_checkpoint(self.checkpoint, device)
