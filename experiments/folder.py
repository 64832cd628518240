"""The run folder: configuration, metrics, checkpoint, pictures and result; one run at a time.

    config.yaml   metrics.jsonl   checkpoint.pt   result.safetensors   result.png   losses.png

and result.teacher.safetensors, where a teacher has labelled the result.

Everything that matters is written to a temporary name and renamed, so a kill at any moment loses at most the steps since the
last checkpoint.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch

from discrepancy.errors import InvalidInput
from experiments.teaching import beside
from objectives.storage import StorageError, replacing

__all__ = ["CHECKPOINT_FORMAT", "RunFolder", "artefact_path", "is_run_folder"]

CHECKPOINT_FORMAT = 1


def artefact_path(path: str | Path) -> Path:
    """The file of an artefact: that of the result, where a run folder is named.

    Raises:
        InvalidInput: if the run of the folder is not finished, or the folder holds none.
    """
    folder = RunFolder(Path(path))
    if not folder.path.is_dir() or folder.result.exists():
        return folder.result if folder.path.is_dir() else folder.path
    if folder.config.exists():
        raise InvalidInput(f"the run in '{path}' is not finished; finish it with: condense run --out {path} --resume")
    raise InvalidInput(f"the folder '{path}' holds no {folder.result.name}; name a run folder, or an artefact")


def is_run_folder(path: str | Path) -> bool:
    """Whether a folder was made by ``condense run``, and not, say, a folder of images."""
    folder = RunFolder(Path(path))
    return folder.result.exists() or (folder.config.exists() and folder.checkpoint.exists())


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.result = path / "result.safetensors"
        self.teacher = beside(self.result)
        self.picture = path / "result.png"
        self.curves = path / "losses.png"
        self._pending: list[str] = []

    @contextlib.contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[None]:
        """Make the folder and hold it.

        Args:
            patience: seconds to wait for another run that holds it.

        Raises:
            StorageError: if it cannot be made or written to.
            InvalidInput: if another run holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock")
            lock.acquire(timeout=patience)
        except filelock.Timeout as error:
            raise InvalidInput(
                f"'{self.path}' is in use by another run; wait for it, or name another folder with --out"
            ) from error
        except OSError as error:
            raise StorageError(
                f"'{self.path}' cannot be used as a run folder ({error.strerror or error}); name another with --out"
            ) from error
        try:
            yield
        finally:
            lock.release()
            with contextlib.suppress(OSError):  # a folder in which nothing was done goes again; others are not empty
                (self.path / ".lock").unlink(missing_ok=True)
                self.path.rmdir()

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file whole or not at all."""
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    # --- metrics ------------------------------------------------------------------------------------------------------

    def measured(self, step: int, loss: float, terms: dict[str, float], seconds: float) -> None:
        """Note one step; it is written with the next checkpoint."""
        self._pending.append(json.dumps({"step": step, "loss": loss, "terms": terms, "seconds": round(seconds, 3)}))

    def flush(self) -> None:
        """Append what was noted."""
        if not self._pending:
            return
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write("\n".join(self._pending) + "\n")
        except OSError as error:
            raise StorageError(
                f"'{self.metrics}' could not be written ({error.strerror or error}); free space"
            ) from error
        self._pending = []

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resumed run will do again, and a line that was cut off."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] < step:
                    kept.append(line)
            except (json.JSONDecodeError, KeyError):
                continue
        self.write_text(self.metrics, "".join(line + "\n" for line in kept))

    # --- checkpoint ---------------------------------------------------------------------------------------------------

    def save(self, state: dict[str, Any], seconds: float, peak_bytes: int = 0) -> None:
        """Write the checkpoint, then the metrics up to it."""
        whole = {
            "format": CHECKPOINT_FORMAT,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "seconds": seconds,
            "peak_bytes": peak_bytes,
            "state": state,
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(whole, temporary)
        self.flush()

    def load(self, device: torch.device) -> dict[str, Any]:
        """The checkpoint.

        Raises:
            InvalidInput: if it is damaged, newer than this version, or of another number of threads.
        """
        try:
            whole = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            kind, threads = whole["format"], whole["threads"]
        except Exception as error:
            # torch raises half a dozen unrelated types for a damaged file
            raise InvalidInput(
                f"'{self.checkpoint}' is damaged or no checkpoint of this command; restore it, or start anew in another folder"
            ) from error
        if kind > CHECKPOINT_FORMAT:
            raise InvalidInput(f"'{self.checkpoint}' was written by a newer version (format {kind}); update this one")
        if device.type == "cpu" and threads != torch.get_num_threads():
            raise InvalidInput(
                f"'{self.checkpoint}' was made with {threads} threads and this process has {torch.get_num_threads()}, so the "
                f"result would differ in its last bits; use --threads {threads}"
            )
        return whole
