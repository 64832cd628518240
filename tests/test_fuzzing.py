"""Some of the cases of ``python -m fuzzing``, which does thousands."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing.__main__ import case
from fuzzing.cases import SURFACES
from fuzzing.samples import Samples, made

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Samples]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.plan.TRYING_SECONDS", 0.0)
        yield made(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("surface", SURFACES)
def test_damaged_input_is_answered_in_one_sentence(
    samples: Samples, surface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.plan.TRYING_SECONDS", 0.0)
    faults = {seed: found for seed in SEEDS if (found := case(surface, seed, samples)[1]).fault}
    assert not faults


def test_what_is_wrong_is_found(samples: Samples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A traceback, raw characters and silence are faults; without this the test above could not fail."""
    from fuzzing.running import outcome

    from experiments import commands

    for raised, fault in ((KeyError("x"), "KeyError"), (OSError("\x1b[2J"), ""), (SystemExit(3), "exit status 3")):

        def kinds(error: BaseException = raised, **values: object) -> None:
            raise error

        monkeypatch.setattr(commands, "kinds", kinds)
        found = outcome(["kinds"], tmp_path / "named").fault
        assert found.startswith(fault) if fault else not found
