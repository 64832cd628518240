"""The command line of the fuzzing: cases by seed, faults by kind, a table by surface."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from fuzzing.cases import SURFACES
from fuzzing.running import Outcome, outcome
from fuzzing.samples import Samples, made


def case(surface: str, seed: int, samples: Samples) -> tuple[list[str], Outcome]:
    """The case of a seed, in a folder of its own that is the working folder."""
    random = Random(f"{surface}/{seed}")
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            arguments = SURFACES[surface](random, samples, Path(folder))
            return arguments, outcome(arguments, samples.named)
        finally:
            os.chdir(before)
            if samples.named.exists():
                shutil.rmtree(samples.named)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, metavar="N", help="of all the surfaces together")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--only", choices=SURFACES, help="this surface alone")
    parser.add_argument("--seconds", type=float, help="stop after so many")
    parser.add_argument("--samples", type=Path, help="where the whole files are, or are made")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    started, surfaces = time.monotonic(), [options.only] if options.only else list(SURFACES)
    folder = options.samples or Path(tempfile.mkdtemp()) / "samples"
    samples = made(folder) if not (folder / "study").exists() else Samples.at(folder)
    counts, statuses = Counter[str](), Counter[int | None]()
    faults: dict[str, list[str]] = {}
    for number in range(options.cases):
        if options.seconds and time.monotonic() - started > options.seconds:
            break
        surface, seed = surfaces[number % len(surfaces)], options.first + number // len(surfaces)
        arguments, found = case(surface, seed, samples)
        counts[surface] += 1
        statuses[found.status] += 1
        if found.fault:
            faults.setdefault(f"{surface}: {found.fault}", []).append(f"{seed}")
        if options.verbose:
            print(seed, arguments, found.status, found.output[:500], found.errors[:2000], found.fault, sep="\n  ")
    for fault, seeds in sorted(faults.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):5d}  {json.dumps(fault, ensure_ascii=True)}  (seeds {', '.join(seeds[:4])})")
    total = sum(counts.values())
    print(
        f"{total} cases in {time.monotonic() - started:.0f} s, {sum(map(len, faults.values()))} faults of {len(faults)} kinds"
    )
    print(", ".join(f"{surface} {count}" for surface, count in counts.items()))
    print(", ".join(f"status {status}: {count}" for status, count in statuses.most_common()))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
