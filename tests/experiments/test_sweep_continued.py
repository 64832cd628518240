"""Sweeps that are begun and committed can be continued: what is done there are cells of the packaged sweep file."""

import shutil
from pathlib import Path

import pytest

from experiments.sweeps import read_results, read_sweep
from experiments.sweeps.cells import cells_of
from experiments.sweeps.folder import SweepFolder

SWEEPS = Path(__file__).parents[2] / "docs" / "sweeps"
FOLDERS = sorted(path.name for path in SWEEPS.iterdir())


@pytest.mark.parametrize("name", FOLDERS)
def test_the_cells_are_those_of_the_packaged_file(name: str):
    folder, cells = SweepFolder(SWEEPS / name), cells_of(read_sweep(name))
    folder.check(cells)
    done = [cell for cell in cells if folder.files(cell).evaluated is not None]
    assert done
    assert len(list(folder.path.rglob("evaluation*.json"))) == len(done)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_tables_are_those_of_the_cells(name: str, tmp_path: Path):
    """The condensed sets are not committed, so nothing is compared that they alone would tell."""
    copy = Path(shutil.copytree(SWEEPS / name, tmp_path / name))
    found = read_results(read_sweep(out=copy), copy)
    assert any(row.done for row in found.rows)
    assert (copy / "robust.csv").read_bytes() == (SWEEPS / name / "robust.csv").read_bytes()
