"""The peak of memory: what was held in a block at most, whatever was held before it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.checkpoint import read_checkpoint, write_checkpoint
from experiments.cli import main
from experiments.folder import RunFolder
from experiments.peak import Peak
from objectives.synthetic.artefact import SyntheticSet

MEBIBYTE = 2**20
CPU = torch.device("cpu")


BLOCKS = """
import torch
from experiments.peak import Peak
for megabytes in (80, 40, 160):
    with Peak(torch.device("cpu"), seconds=0.001) as peak:
        block = torch.ones(megabytes * 2**20 // 4)
        held = peak.bytes
        del block
    print(megabytes * 2**20, held, peak.bytes)
"""


def test_blocks_that_are_freed_again():
    """The largest set that the process ever had hides nothing: the sizes go down and up again. In a process of its own, since
    what other tests hold and free meanwhile would count."""
    said = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True).stdout
    lines = [[int(number) for number in line.split()] for line in said.splitlines()]
    assert len(lines) == 3
    for size, held, peak in lines:
        assert held == pytest.approx(size, rel=0.1)
        assert peak == pytest.approx(size, rel=0.1)


def test_what_was_held_before_does_not_count():
    held = torch.ones(40 * MEBIBYTE)
    with Peak(CPU) as peak:
        held.sum()
    assert peak.bytes < 40 * MEBIBYTE


def test_an_earlier_part_of_the_work_counts():
    with Peak(CPU) as peak:
        peak.before = 10**15
        assert peak.bytes == 10**15


def test_a_run_records_its_peak_steps_and_seconds_and_goes_on_counting_when_resumed(tmp_path: Path, capsys):
    tiny = ["--data", "digits", "--per-class", "1", "--set", "context.network.width=4", "--steps", "4", "--quiet"]
    assert main(["run", "dm", *tiny, "--out", str(tmp_path / "run"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    folder = RunFolder(tmp_path / "run")
    record = SyntheticSet.load(folder.result).record
    assert record["memory"] == {
        "peak_bytes": said["peak_bytes"],
        "of": "resident set of the process, at most, above the start",
    }
    assert record["memory"]["peak_bytes"] > 0
    assert record["steps"] == 4
    saved = read_checkpoint(folder.checkpoint, torch.device("cpu"))
    write_checkpoint(replace(saved, peak_bytes=10**15, seconds=1000.0), folder.checkpoint)
    assert main(["run", "--out", str(tmp_path / "run"), "--resume", "--quiet"]) == 0
    record = SyntheticSet.load(folder.result).record
    assert record["memory"]["peak_bytes"] == 10**15
    assert record["seconds"] > 1000
