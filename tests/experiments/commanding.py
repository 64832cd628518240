"""A tiny run by the command, and its folder."""

import shutil
from pathlib import Path

import pytest

from experiments.cli import main

__all__ = ["TINY", "finished", "run", "template"]


TINY = ["--data", "digits", "--per-class", "1", "--set", "context.network.width=4", "--set", "context.batch=8"]


def run(*arguments: str) -> int:
    return main(["run", "dm", *TINY, *arguments])


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "run"
    assert run("--steps", "6", "--out", str(folder), "--quiet") == 0
    return folder


@pytest.fixture
def finished(template: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of six steps."""
    return Path(shutil.copytree(template, tmp_path / "run"))
