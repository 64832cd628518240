"""The script that sets estimates beside what is taken: kernels of all pairs are part of what a dry run says."""

import pytest

from experiments.benchmarks.estimates import SLACK, is_near, main


def test_an_estimate_is_near_within_a_factor_or_some_bytes():
    assert is_near(100 << 20, 151 << 20)
    assert is_near(10 * SLACK, 15 * SLACK)
    assert not is_near(10 * SLACK, 16 * SLACK)
    assert not is_near(16 * SLACK, 10 * SLACK)
    assert is_near(0, SLACK)
    assert not is_near(0, SLACK + 1)


@pytest.mark.slow
def test_kernels_and_network_gradients_are_counted(capsys: pytest.CaptureFixture[str]):
    assert main(["kip", "dc", "--per-class", "50", "--steps", "2"]) == 0, capsys.readouterr()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["method", "kip", "dc"]
