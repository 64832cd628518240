"""How many of this project's own functions one step of distribution matching calls: beside torch, that is what a step costs.

    python -m experiments.benchmarks.calls [--tree]

Comprehensions are frames of their own in Python 3.11, and are none from 3.12 on; functions are counted without them.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from discrepancy.networks import ConvNet
from experiments.benchmarks.distribution_matching import random_images, started
from objectives import Fresh, Siamese

__all__ = ["Call", "calls", "main"]

ROOT = Path(__file__).parents[2]
OWN = tuple(str(ROOT / package) for package in ("discrepancy", "objectives", "experiments"))


class Call(NamedTuple):
    """A frame: how many own frames it lies within, its module, and its function."""

    depth: int
    module: str
    function: str


def calls(action: Callable[[], object]) -> list[Call]:
    """The own frames of an action, in the order in which they begin; a generator has one each time that it goes on."""
    found: list[Call] = []

    def record(frame: FrameType, event: str, argument: Any) -> None:
        code, outer, depth = frame.f_code, frame.f_back, 0
        if event != "call" or not code.co_filename.startswith(OWN):
            return
        while outer is not None:
            depth += outer.f_code.co_filename.startswith(OWN)
            outer = outer.f_back
        found.append(Call(depth, str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    sys.setprofile(record)
    try:
        action()
    finally:
        sys.setprofile(None)
    least = min((call.depth for call in found), default=0)
    return [call._replace(depth=call.depth - least) for call in found]


def main() -> None:
    """Print the counts, and the tree of the calls if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.calls")
    parser.add_argument("--tree", action="store_true", help="print every call too")
    options = parser.parse_args()
    context = Fresh(network=ConvNet(width=8, depth=2), augment=Siamese())
    found = calls(started(random_images(640, 8), context, "never", {}, "", fill=3))
    functions = [call for call in found if "<" not in call.function.rpartition(".")[2]]
    modules = Counter(call.module for call in found)
    print(f"{len(found)} frames, {len(functions)} of them functions, in {len(modules)} modules")
    for module, count in modules.most_common():
        print(f"{count:4} {module}")
    for call in found if options.tree else ():
        print("  " * call.depth + call.function)


if __name__ == "__main__":
    main()
