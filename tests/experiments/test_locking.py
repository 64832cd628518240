"""One process at a time: whoever comes third does not get in beside the second."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.locking import _locked, locked_folder

HOLDER = """
import sys, time
from pathlib import Path
from experiments.locking import locked_folder
folder, count = Path(sys.argv[1]), Path(sys.argv[2])
for turn in range(100):
    with locked_folder(folder, patience=60):
        inside = int(count.read_text())
        count.write_text(str(inside + 1))
        time.sleep(0.0005 * (turn % 3))
        assert count.read_text() == str(inside + 1), "two processes hold the folder"
"""


def test_many_processes_take_turns(tmp_path: Path) -> None:
    folder, count = tmp_path / "new" / "run", tmp_path / "count"
    count.write_text("0")
    command = [sys.executable, "-c", HOLDER, folder, count]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error.decode()
    assert count.read_text() == "300"
    assert not folder.exists()  # nothing was done in it


def test_a_file_that_was_removed_is_locked_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process removes its file and leaves, when a second one has opened it already."""
    folder, path = tmp_path / "run", tmp_path / "run" / ".lock"

    class Late:
        """Between the opening of the file and its locking the first process ends."""

        LOCK_EX = LOCK_NB = 0
        turns = 0

        def flock(self, *_: object) -> None:
            self.turns += 1
            if self.turns == 1:
                path.unlink()

    late = Late()
    monkeypatch.setattr("experiments.locking.fcntl", late)
    descriptor = _locked(path)
    assert descriptor is not None
    assert late.turns == 2
    assert path.exists()
    assert folder.is_dir()


def test_waiting_ends(tmp_path: Path) -> None:
    with locked_folder(tmp_path) as held:
        assert held()
        started = time.monotonic()
        with pytest.raises(TimeoutError), locked_folder(tmp_path, patience=0.2):
            pass
        assert time.monotonic() - started >= 0.2
        (tmp_path / ".lock").unlink()
        assert not held()
