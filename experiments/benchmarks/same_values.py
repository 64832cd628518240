"""Whether a change leaves every value as it was: all packaged methods, evaluations and a comparison on digits, by two commits.

    python -m experiments.benchmarks.same_values COMMIT

runs the commands below in a copy of COMMIT and in the working tree, on this machine, and compares what they leave: every
tensor of every artefact, and every number that is printed as JSON. Equal means bit for bit; where the order of a sum changed
for a good reason, ``--tolerance 1e-6`` says how much is allowed, relative to the largest entry of a tensor.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from objectives.methods import available

__all__ = ["COMMANDS", "differences", "main"]

METHODS = tuple(sorted(available()))

NETWORK = ["--set", "context.network.width=8", "--set", "context.network.depth=2"]
SETTINGS: Mapping[str, list[str]] = {
    "best": [*NETWORK, "--set", "teacher.rounds=1", "--set", "teacher.training.steps=5"],
    "forgetting": [*NETWORK, "--set", "solver.rounds=3", "--set", "solver.training.steps=20"],
    "kip": [],
    "mfc": [],
    "random": [],
    "ridge": [],
    "rome": [
        *NETWORK,
        "--set",
        "objective.terms.robust.transform.teacher={network: {kind: mlp, width: 8}, rounds: 1, training: {steps: 5}}",
    ],
    "ncfm": [*NETWORK, "--set", "context.trained=2", "--set", "context.size=2", "--set", "context.training.steps=5"],
}
GROUPED = ("group_dro",)
"""Methods for data with groups."""

STEPLESS = ("forgetting", "greedy_mmd", "herding", "k_centre", "kernel_thinning", "mfc", "random", "ridge")

COMMANDS: Mapping[str, list[str]] = {
    **{
        name: [
            "run",
            name,
            "--data",
            "{kind: clustered, of: digits}" if name in GROUPED else "digits",
            "--per-class",
            "3",
            *([] if name in STEPLESS else ["--steps", "7"]),
            *SETTINGS.get(name, NETWORK),
        ]
        for name in METHODS
    },
    "dm-double": [
        "run",
        "dm",
        "--data",
        "digits",
        "--per-class",
        "3",
        "--steps",
        "7",
        "--set",
        "dtype=float64",
        *NETWORK,
    ],
    "dm-learned": [
        *["run", "dm", "--data", "digits", "--per-class", "2", "--steps", "7", *NETWORK],
        *["--set", "synthetic.weights=learned", "--set", "solver.update=per_class"],
    ],
    "dm-pool": [
        *["run", "dm", "--data", "digits", "--examples", "13", "--steps", "7", "--set"],
        "context={kind: pool, size: 2, augment: siamese, augmentations: 2, batch: all, network: {kind: convnet, width: 8}}",
    ],
    "diabetes": [
        *["run", "ridge", "--data", "diabetes", "--examples", "4"],
    ],
    "frequencies": [
        *["run", "dm", "--data", "digits", "--per-class", "2", "--steps", "7", *NETWORK],
        *["--set", "synthetic={kind: frequencies, keep: 4, labels: soft}"],
        *["--set", "objective.terms.labels={penalty: cross_entropy}"],
    ],
    "evaluate dm": ["evaluate", "dm/result.safetensors", "--protocol", "quick", "--networks", "2"],
    "evaluate kip": ["evaluate", "kip/result.safetensors", "--protocol", "learner"],
    "evaluate frepo": ["evaluate", "frepo/result.safetensors", "--protocol", "learner", "--networks", "2"],
    "evaluate ridge": ["evaluate", "ridge/result.safetensors", "--protocol", "learner"],
    "compare": [
        *["compare", "digits", "dm/result.safetensors", "random/result.safetensors", "--by", "both"],
        *["--discrepancies", "mmd,energy_distance,wasserstein,sliced_wasserstein,moments", "--set", "resamples=10"],
    ],
    "compare features": [
        *["compare", "digits", "dm/result.safetensors", "--via", "features", "--network", "convnet", "--by", "class"],
        *["--discrepancies", "mmd", "--set", "resamples=10"],
    ],
}
"""What is run, by name, in a folder of its own. Only the command line is used, which both commits have."""

TIMES = ("seconds", "memory", "versions", "peak_bytes")
"""Of a record, what differs between two runs of one commit."""


def main(arguments: list[str] | None = None) -> int:
    """Run both, compare, print; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the commit whose values are right")
    parser.add_argument("--only", default="", help="names of commands, by commas")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="allowed difference, relative to the largest entry"
    )
    options = parser.parse_args(arguments)
    here = Path(__file__).resolve().parents[2]
    names = [name for name in options.only.split(",") if name] or list(COMMANDS)
    with tempfile.TemporaryDirectory() as folder:
        tree, before, after = (Path(folder, name) for name in ("tree", "before", "after"))
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, options.commit], cwd=here, check=True)
        try:
            _run(tree, before, names)
            _run(here, after, names)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=here, check=True)
        wrong = 0
        for name in names:
            found = differences(before / name, after / name, options.tolerance)
            wrong += bool(found)
            print(f"{name:20s} {'equal' if not found else '; '.join(found[:4])}", flush=True)
    print(f"{len(names) - wrong} of {len(names)} equal")
    return int(wrong > 0)


def _run(tree: Path, out: Path, names: list[str]) -> None:
    """All the commands in one process that imports the packages of ``tree``."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    out.mkdir()
    subprocess.run([sys.executable, __file__, "--child", out, *names], cwd=out, env=environment, check=True)


def _child(out: Path, names: list[str]) -> None:
    import contextlib
    import io

    from experiments.cli import main as condense

    assert Path(sys.modules["experiments"].__file__ or "").is_relative_to(os.environ["PYTHONPATH"])

    os.chdir(out)  # paths are part of the hash of a comparison
    for name in names:
        place = out / name
        words = [*COMMANDS[name]]
        if words[0] == "run":
            words += ["--out", name, "--quiet", "--device", "cpu", "--set", "compile=never"]
        else:
            words += ["--json", "--device", "cpu"]
        place.mkdir(exist_ok=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = condense(words)
        if code:
            raise SystemExit(f"'{name}' ended with {code}: condense {' '.join(words)}")
        if words[0] != "run":
            (place / "printed.json").write_text(printed.getvalue(), encoding="utf-8")


def differences(before: Path, after: Path, tolerance: float = 0.0) -> list[str]:
    """What two folders of results disagree in, in words."""
    found: list[str] = []
    for path in sorted(before.glob("*.safetensors")):
        first, second = load_file(path), load_file(after / path.name)
        if first.keys() != second.keys():
            found.append(f"{path.name} holds {sorted(first)} and {sorted(second)}")
            continue
        found += [text for name, value in first.items() if (text := _difference(name, value, second[name], tolerance))]
    for path in sorted(before.glob("*.json")):
        first, second = (json.loads((folder / path.name).read_text(encoding="utf-8")) for folder in (before, after))
        mine, other = dict(_leaves(first)), dict(_leaves(second))
        for key in sorted(mine.keys() | other.keys()):
            a, b = mine.get(key), other.get(key)
            close = isinstance(a, float) and isinstance(b, float) and abs(a - b) <= tolerance * abs(a)
            if a != b and not close and not any(word in key for word in TIMES):
                found.append(f"{key}: {a} and {b}")
    return found


def _difference(name: str, first: torch.Tensor, second: torch.Tensor, tolerance: float) -> str:
    if first.shape != second.shape or first.dtype != second.dtype:
        return f"{name} is {first.dtype}{tuple(first.shape)} and {second.dtype}{tuple(second.shape)}"
    if torch.equal(first, second):
        return ""
    apart = float((first.double() - second.double()).abs().max() / first.double().abs().max().clamp(min=1e-300))
    return "" if apart <= tolerance else f"{name} differs by {apart:.1e} of its largest entry"


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word of a JSON tree by its path; folders of results are left out of words."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{path}/{number}")
    elif not (isinstance(node, str) and "/" in node):
        yield path, node


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(Path(sys.argv[2]), sys.argv[3:])
    else:
        raise SystemExit(main())
