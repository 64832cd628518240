"""The tests marked ``cuda`` on the device, each with its outcome; those that no time was left for are counted as such."""

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.gpu.budget import Budget, Setting

__all__ = ["rows"]

ROOT = Path(__file__).parents[2]
OUTCOME = re.compile(r"^(tests/.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b", re.MULTILINE)


def rows(setting: Setting, budget: Budget) -> Iterator[dict[str, Any]]:
    """One row of counts, with the names of the tests that failed."""
    device = "far" if setting.device.type == "far" else str(setting.device)
    only = ["tests/test_far_methods.py", "-k", "values and (dm or random) and not idm"] if setting.tiny else ["tests"]
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "--device", device, *only]
    command += ["--override-ini", "addopts=", "-v", "-p", "no:cacheprovider", "--color", "no"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        try:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            ended = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, timeout=budget.left
            )
            left_out = {}
        except subprocess.TimeoutExpired:
            ended, left_out = None, {"left_out": f"what was not done after {budget.seconds:.0f} s"}
        output.seek(0)
        text = output.read()
    outcomes = OUTCOME.findall(text)
    failed = [name for name, outcome in outcomes if outcome in ("FAILED", "ERROR")]
    yield {
        "what": "pytest -m cuda",
        **Counter(outcome.lower() for _, outcome in outcomes),
        "failures": failed,
        **left_out,
    }
    if failed or (ended is not None and ended.returncode):
        raise RuntimeError(f"pytest -m cuda failed: {' '.join(failed) or text[-2000:]}")
