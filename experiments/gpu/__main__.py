"""``make gpu``: the tests marked cuda and the figures that need a GPU, as one JSON, in under eight minutes.

python -m experiments.gpu [--device cuda] [--only PART,PART] [--out FILE] [--data FOLDER]

Every part has its own time; what did not fit, and what failed, stands in the JSON. The exit status is 1 if a part failed.
"""

import argparse
import contextlib
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from discrepancy.errors import InvalidInput
from experiments.benchmarks.__main__ import machine
from experiments.device import chosen_device
from experiments.gpu import forward, methods, published, tests
from experiments.gpu.budget import Budget, Setting
from objectives.storage import json_text, write_text

__all__ = ["PARTS", "main"]

Part = Callable[[Setting, Budget], Iterator[dict[str, Any]]]

PARTS: Mapping[str, tuple[Part, float]] = {
    "forward": (forward.rows, 90),
    "dm": (published.dm, 45),
    "ncfm": (published.ncfm, 60),
    "methods": (methods.rows, 75),
    "tests": (tests.rows, 120),
}
"""What is done, and for how many seconds. A part may end one measurement later."""


def main(arguments: list[str] | None = None) -> int:
    """Run the parts and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m experiments.gpu")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or far: the pretend accelerator of the tests")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PARTS", help="some of: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"), metavar="FILE", help="default: %(default)s")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of cifar10_a.npz; default: DISCREPANCY_TEST_DATA")
    parser.add_argument("--tiny", action="store_true", help="very small sizes, to test this script")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"there is no part '{unknown[0]}' (known: {', '.join(PARTS)})")
    folder = options.data or os.environ.get("DISCREPANCY_TEST_DATA")
    with device_named(options.device) as device:
        setting = Setting(device, options.tiny, Path(folder) if folder else None)
        report: dict[str, Any] = {"machine": described(device), "tiny": options.tiny, "parts": {}}
        for name in names:
            report["parts"][name] = carried_out(name, setting)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.out, json_text(report, 1) + "\n")
    print(f"written to {options.out}")
    return int(any("error" in part for part in report["parts"].values()))


@contextlib.contextmanager
def device_named(name: str) -> Iterator[torch.device]:
    """The device; for ``far``, with the pretence around."""
    if name != "far":
        yield chosen_device(name)
        return
    sys.path.insert(0, str(tests.ROOT / "tests"))
    try:
        far: Any = importlib.import_module("far")
        far.register()
        with far.pretend() as device:
            yield device
    finally:
        sys.path.pop(0)


def described(device: torch.device) -> dict[str, Any]:
    """The machine, its versions, and the settings of torch that change speed or values."""
    facts: dict[str, Any] = {**machine(), "device": str(device), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_in_convolutions": torch.backends.cudnn.allow_tf32,
            "tf32_in_products": torch.backends.cuda.matmul.allow_tf32,
        }
    return facts


def carried_out(name: str, setting: Setting) -> dict[str, Any]:
    """The rows of a part, up to its end or to the error that ended it."""
    part, seconds = PARTS[name]
    budget, found = Budget(seconds), []
    outcome: dict[str, Any] = {"budget_seconds": seconds, "rows": found}
    start = time.perf_counter()
    try:
        for row in part(setting, budget):
            found.append(row)
            print(f"{name}: {json_text(row)}", flush=True)
    except Exception as error:
        traceback.print_exc()
        outcome["error"] = f"{type(error).__name__}: {error}"
    outcome["seconds"] = time.perf_counter() - start
    return outcome


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InvalidInput as error:
        print(error, file=sys.stderr)
        sys.exit(2)
