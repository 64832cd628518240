"""Shapes are checked in every test but the compiled ones: the hook and torch.compile exclude each other, so those run in a
second session, ``DISCREPANCY_UNHOOKED=1 pytest -m compiled``."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import checked
import far
import pytest
import torch

HOOKED = os.environ.get("DISCREPANCY_UNHOOKED") != "1"
if HOOKED:
    checked.install("discrepancy", "objectives", "experiments")


os.environ["DISCREPANCY_CACHE"] = "off"  # nothing is written into the user's own folders


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="far", help="of the tests marked cuda: cuda, cuda:N, or far, a pretend accelerator"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--device") == "far" and not missing_pretence(config):
        far.register()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays until the end, so it is not searched for garbage, then or later."""
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    compiled = pytest.mark.skip(reason="torch.compile needs DISCREPANCY_UNHOOKED=1 pytest -m compiled")
    pretence = missing_pretence(config)
    for item in items:
        if HOOKED and item.get_closest_marker("compiled"):
            item.add_marker(compiled)
        if pretence and item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason=pretence))


def pytest_runtest_setup() -> None:
    checked.Test.number += 1


def missing_pretence(config: pytest.Config) -> str:
    """Why there is no pretend accelerator where one is needed; empty if there is."""
    if config.getoption("--device") != "far":
        return ""
    if not HOOKED:
        return "torch.compile looks through the pretend accelerator; run without DISCREPANCY_UNHOOKED, or with --device cuda"
    return "" if far.SUPPORTED else f"the pretend accelerator needs torch >= 2.10, this is {torch.__version__}"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20)


@pytest.fixture
def accelerator(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device of ``--device``."""
    name = request.config.getoption("--device")
    if name != "far":
        yield torch.device(name)
        return
    with far.pretend() as device:
        yield device


@pytest.fixture
def pretended(accelerator: torch.device) -> torch.device:
    """The pretend accelerator, for what only it can count."""
    if accelerator.type != "far":
        pytest.skip(f"{accelerator} does not count host waits; leave out --device")
    return accelerator


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with mnist.npz, fashion_mnist.npz, ... and unpack.py."""
    folder = os.environ.get("DISCREPANCY_TEST_DATA")
    if folder is None:
        pytest.skip("DISCREPANCY_TEST_DATA names no folder with real data")
    return Path(folder)
