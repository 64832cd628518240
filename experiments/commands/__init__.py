"""What each command of ``condense`` does: build objects from plain values, call one function, return the report.

Every command can be called from Python with the values that stand on the command line:

    report = commands.evaluate("runs/dm", controls=["random"], networks=3, quiet=True)
    print(as_text(report))
    save(report, "dm.html")
"""

import importlib
from typing import TYPE_CHECKING, Any

from discrepancy.errors import InvalidInput
from experiments.config import load_parts, load_plugins

if TYPE_CHECKING:
    from experiments.commands.artefacts import evaluate, export, label, show, source_of
    from experiments.commands.comparing import compare
    from experiments.commands.lists import kinds, methods
    from experiments.commands.running import run
    from experiments.commands.series import study_exact, study_predict, sweep

__all__ = [
    "compare",
    "evaluate",
    "export",
    "kinds",
    "label",
    "load_parts",
    "load_plugins",
    "methods",
    "run",
    "set_threads",
    "show",
    "source_of",
    "study_exact",
    "study_predict",
    "sweep",
]

MODULES = {
    "artefacts": ("evaluate", "export", "label", "show", "source_of"),
    "comparing": ("compare",),
    "lists": ("kinds", "methods"),
    "running": ("run",),
    "series": ("study_exact", "study_predict", "sweep"),
}


def __getattr__(name: str) -> Any:
    """A command, imported when it is first asked for: what lists names needs no torch."""
    for module, names in MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


MOST_THREADS = 1024
"""More of them than any machine has cores end a process without a word."""


def set_threads(count: int) -> None:
    """Set the number of threads of torch."""
    import torch

    if not 1 <= count <= MOST_THREADS:
        raise InvalidInput(f"'--threads' must be 1 to {MOST_THREADS}, got {count}")
    torch.set_num_threads(count)
