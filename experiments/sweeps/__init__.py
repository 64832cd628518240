"""Sweeps: methods beside each other on the same data, at the same sizes, under one protocol, from one file by one command.

result = run_sweep(read_sweep("matching"), "runs/matching", progress=shown)
save(result.report(), "matching.html")
"""

from experiments.sweeps.files import available, read_sweep
from experiments.sweeps.rows import Row
from experiments.sweeps.run import SweepResult, plan_sweep, read_results, run_sweep
from experiments.sweeps.sweep import Cross, Entry, Portion, ProtocolChoice, Sweep

__all__ = [
    "Cross",
    "Entry",
    "Portion",
    "ProtocolChoice",
    "Row",
    "Sweep",
    "SweepResult",
    "available",
    "plan_sweep",
    "read_results",
    "read_sweep",
    "run_sweep",
]
