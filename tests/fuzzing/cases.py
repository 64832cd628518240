"""Cases by surface: each makes damaged files in a folder and says which command is to read them."""

import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from experiments.config import build, dump, read, write_yaml
from experiments.experiment import Experiment, configured
from experiments.method import method_tree
from fuzzing.damage import CONTROL, WORDS, damaged_bytes, damaged_safetensors, damaged_tree, value
from fuzzing.samples import TINY_STUDY, TINY_SWEEP, Samples
from objectives.methods import available

Case = Callable[[Random, Samples, Path], list[str]]


def _text_of(random: Random, tree: Any) -> str:
    """A configuration as YAML, maybe by way of JSON, maybe with what only YAML can write."""
    try:
        text = json.dumps(tree) if random.random() < 0.5 else write_yaml(tree)
    except (ValueError, TypeError, RecursionError):
        text = json.dumps(tree)
    match random.randrange(12):
        case 0:
            text = damaged_bytes(random, text.encode()).decode("utf-8", "replace")
        case 1:
            tag = random.choice(
                ["int", "bool", "float", "timestamp", "set", "omap", "binary", "python/name:os.system", "null"]
            )
            text = text.replace(": ", f": !!{tag} ", random.choice([1, 3]))
        case 2:
            names = "abcdefghij"
            bomb = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
            bomb += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in itertools.pairwise(names)]
            text = "\n".join(bomb)
        case 3:
            text = random.choice(["[", "{a: ", "- ", "a.", "? "]) * random.choice([10, 100, 3000])
    return text


def configuration(random: Random, samples: Samples, folder: Path) -> list[str]:
    name = random.choice(list(available()))
    tree = configured(method_tree(name), {"data": "digits", "synthetic": {"per_class": 1}})
    tree = dump(build(Experiment, tree)) if random.random() < 0.3 else tree
    tree = damaged_tree(random, tree, 3)
    file = folder / f"own{random.choice(['.yaml', '.yaml', '.yml', '.toml'])}"
    file.write_bytes(_text_of(random, tree).encode("utf-8", "replace"))
    return ["run", str(file), "--dry-run", "--quiet"]


def assignment(random: Random, samples: Samples, folder: Path) -> list[str]:
    tree = dump(build(Experiment, configured(method_tree("dm"), {"data": "digits"})))
    changes = []
    for _ in range(random.randint(1, 3)):
        path = ".".join(
            random.sample(["data", "solver", "lr", "context", "network", "width", "objective", "x", "0"], 3)
        )
        if random.random() < 0.8:
            node, steps = tree, []
            while isinstance(node, dict) and node and random.random() < 0.9:
                steps.append(random.choice(list(node)))
                node = node[steps[-1]]
            path = ".".join(steps)
        found = value(random)
        text = found if isinstance(found, str) else json.dumps(found)
        changes += ["--set", f"{path}={text}".replace("\x00", "")]
    size = ["--per-class", random.choice(["1", "1", "0", "-3", "1000000000000", "99999999"])]
    return ["run", "dm", "--data", "digits", *size, "--dry-run", "--quiet", *changes]


def artefact(random: Random, samples: Samples, folder: Path) -> list[str]:
    file = folder / "result.safetensors"
    source = samples.labelled if random.random() < 0.3 else samples.artefact
    damaged_safetensors(random, source, file, "discrepancy")
    named = [
        {"kind": "npz", "path": str(samples.npz)},
        {"kind": "torchvision", "name": "MNIST", "root": str(samples.named)},
    ]
    if random.random() < 0.1:
        _rename(source, file, random.choice(named))
    small = ["--networks", "1", "--set", "network.width=4", "--set", "epochs=1", "--quiet"]
    return random.choice(
        [
            ["show", str(file)],
            ["show", str(file), "--json"],
            ["export", str(file), str(folder / "out.npz")],
            ["export", str(file), str(folder / "out")],
            ["evaluate", str(file), "--controls", "none", *small],
            ["evaluate", str(file), "--protocol", "learner", "--controls", "none", "--quiet"],
            ["compare", "digits", str(file), "--discrepancies", "mean", "--resamples", "10", "--quiet"],
            [
                "label",
                str(file),
                "--teacher",
                str(samples.teacher),
                "--out",
                str(folder / "new.safetensors"),
                "--quiet",
            ],
        ]
    )


def _rename(source: Path, to: Path, data: Mapping[str, Any]) -> None:
    """An artefact that says that it was made from these data."""
    import safetensors
    import safetensors.torch

    with safetensors.safe_open(source, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["discrepancy"])
    about["config"]["data"] = data
    safetensors.torch.save_file(tensors, to, {"discrepancy": json.dumps(about)})


def teacher(random: Random, samples: Samples, folder: Path) -> list[str]:
    file = folder / "t.teacher.safetensors"
    damaged_safetensors(random, samples.teacher, file, "teacher")
    out = ["--out", str(folder / "new.safetensors"), "--quiet"]
    return ["label", str(samples.artefact), "--teacher", str(file), *out]


def npz(random: Random, samples: Samples, folder: Path) -> list[str]:
    file = folder / "own.npz"
    if random.random() < 0.4:
        file.write_bytes(damaged_bytes(random, samples.npz.read_bytes()))
    else:
        with np.load(samples.npz) as found:
            arrays: dict[str, Any] = dict(found)
        for _ in range(random.randint(1, 2)):
            name = random.choice([*arrays, "targets", "x_train", "y_test", "weights"])
            arrays[name] = _array(random, arrays.get(name, np.zeros(24)))
            if random.random() < 0.2:
                arrays.pop(random.choice(list(arrays)))
        np.savez(file, **{name: item for name, item in arrays.items() if name != "file"})
    if random.random() < 0.03:
        file.unlink()
        os.mkfifo(file)
    return _of_data(random, str(file))


def _array(random: Random, array: np.ndarray) -> Any:
    match random.randrange(14):
        case 0:
            return np.array({"a": 1}, dtype=object)
        case 1:
            return array.astype(random.choice([np.longdouble, np.complex64, np.float16, np.int8, np.uint64, bool]), copy=True) \
                if array.dtype.kind in "biuf" else array  # fmt: skip
        case 2:
            return np.array(3)
        case 3:
            return array[:0]
        case 4:
            return array[: random.randint(0, len(array))] if array.ndim else array
        case 5:
            return np.full(array.shape, random.choice([np.nan, np.inf, -1.0, 1e308, 0.5]))
        case 6:
            return np.full(array.shape, random.choice(WORDS)[:100].replace("\x00", ""))
        case 7:
            return array[None]
        case 8:
            return np.array(["2001-01-01"] * 24, dtype="datetime64[D]")
        case 9:
            return np.zeros(24, dtype=[("a", "i4"), ("b", "f8")])
        case 10:
            return np.where(np.arange(array.size).reshape(array.shape) % 2, -1, 1)
        case 11:
            return np.array([word.encode("utf-8", "replace") for word in CONTROL])
        case _:
            return array.astype(array.dtype.newbyteorder())


def _of_data(random: Random, data: str) -> list[str]:
    random_choice = ["run", "random", "--per-class", "1", "--dry-run", "--quiet", "--data", data]
    options = ["--discrepancies", "mean", "--resamples", "10", "--quiet"]
    return random_choice if random.random() < 0.8 else ["compare", data, f"{data}:test", *options]


def images(random: Random, samples: Samples, folder: Path) -> list[str]:
    own = folder / random.choice(["own", "ünï", "a b"])
    shutil.copytree(samples.images, own)
    for _ in range(random.randint(1, 3)):
        files = sorted(path for path in own.rglob("*") if path.is_file() and not path.is_symlink())
        if not files:
            break
        file = random.choice(files)
        match random.randrange(12):
            case 0 | 1 | 2 | 3:
                file.write_bytes(damaged_bytes(random, file.read_bytes()))
            case 4:
                file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n/x 1 def showpage\n")
            case 5:
                file.unlink()
                os.mkfifo(file)
            case 6:
                file.rename(file.with_suffix(random.choice([".txt", "", ".PNG", ".gif"])))
            case 7:
                names = ["train", "Train", "test", "val", "e\x1b[2Jf", "a\nb", ".hidden"]
                to = own / random.choice(names)
                if not to.exists():
                    file.parent.rename(to)
            case 8:
                mode = random.choice(["L", "1", "P", "LA", "RGBA", "CMYK", "I", "F", "I;16"])
                Image.new(mode, (random.choice([1, 5, 300]), 6)).save(file.with_suffix(".tif"))
            case 9:
                (own / "deep" / "er").mkdir(parents=True, exist_ok=True)
                file.rename(own / "deep" / "er" / file.name)
            case 10:
                file.unlink()
                file.symlink_to(random.choice(["nothing", str(file), "/dev/zero", "/proc/self/mem"]))
            case _:
                pages = [Image.new("RGB", (5, 6), (i, 0, 0)) for i in range(3)]
                pages[0].save(file.with_suffix(".tif"), save_all=True, append_images=pages[1:])
    data = str(own)
    if random.random() < 0.3:
        data = json.dumps({"kind": "images", "path": data, "size": random.choice([4, 1, 0, 10**9])})
        return ["run", "random", "--per-class", "1", "--dry-run", "--quiet", "--set", f"data={data}"]
    return _of_data(random, data)


def checkpoint(random: Random, samples: Samples, folder: Path) -> list[str]:
    own = folder / "run"
    shutil.copytree(samples.begun, own)
    file = own / random.choice(["checkpoint.pt", "checkpoint.pt", "config.yaml", "metrics.jsonl"])
    if random.random() < 0.1:
        file.unlink()
    else:
        file.write_bytes(damaged_bytes(random, file.read_bytes()))
    return ["run", "--out", str(own), "--resume", "--quiet"]


def run_folder(random: Random, samples: Samples, folder: Path) -> list[str]:
    own = folder / "run"
    shutil.copytree(samples.run, own)
    file = random.choice(sorted(path for path in own.iterdir() if path.is_file()))
    match random.randrange(4):
        case 0:
            file.unlink()
        case 1:
            file.unlink()
            file.mkdir()
        case _:
            file.write_bytes(damaged_bytes(random, file.read_bytes()))
    return random.choice(
        [
            ["show", str(own)],
            ["run", "--out", str(own), "--resume", "--quiet"],
            ["export", str(own), str(folder / "x.npz")],
            ["compare", "digits", str(own), "--discrepancies", "mean", "--resamples", "10", "--quiet"],
        ]
    )


def _damaged_file(random: Random, file: Path) -> None:
    """A file of JSON, JSON lines or YAML, damaged as a tree or as bytes."""
    content = file.read_bytes()
    if file.suffix == ".json" and random.random() < 0.7:
        file.write_text(json.dumps(damaged_tree(random, json.loads(content), 3)))
    elif file.suffix == ".jsonl" and random.random() < 0.7:
        lines = [json.dumps(damaged_tree(random, json.loads(line))) for line in content.splitlines()]
        file.write_text("\n".join(lines))
    elif file.suffix == ".yaml" and random.random() < 0.7:
        file.write_bytes(json.dumps(damaged_tree(random, read(file), 3)).encode())
    elif random.random() < 0.1:
        file.unlink()
    else:
        file.write_bytes(damaged_bytes(random, content))


def sweep_folder(random: Random, samples: Samples, folder: Path) -> list[str]:
    own = folder / "sweep"
    shutil.copytree(samples.sweep, own)
    useful = (".json", ".yaml", ".safetensors")
    _damaged_file(random, random.choice(sorted(path for path in own.rglob("*") if path.suffix in useful)))
    how = random.choice(["--report-only", "--dry-run"])
    return ["sweep", "--out", str(own), how, "--quiet"]


def sweep_file(random: Random, samples: Samples, folder: Path) -> list[str]:
    tree = damaged_tree(random, TINY_SWEEP, 3)
    file = folder / "own.yaml"
    file.write_bytes(_text_of(random, tree).encode("utf-8", "replace"))
    return ["sweep", str(file), "--out", str(folder / "out"), "--report-only", "--quiet"]


def study_folder(random: Random, samples: Samples, folder: Path) -> list[str]:
    own = folder / "study"
    shutil.copytree(samples.study, own)
    useful = (".jsonl", ".yaml", ".safetensors")
    _damaged_file(random, random.choice(sorted(path for path in own.rglob("*") if path.suffix in useful)))
    return ["study", "predict", str(samples.study.parent / "study.yaml"), "--out", str(own), "--quiet"]


def study_file(random: Random, samples: Samples, folder: Path) -> list[str]:
    file = folder / "own.yaml"
    file.write_bytes(_text_of(random, damaged_tree(random, TINY_STUDY, 3)).encode("utf-8", "replace"))
    return ["study", "predict", str(file), "--show"]


def command_line(random: Random, samples: Samples, folder: Path) -> list[str]:
    words = [
        "run",
        "show",
        "export",
        "evaluate",
        "compare",
        "kinds",
        "methods",
        "label",
        "sweep",
        "dm",
        "digits",
        "digits:test",
    ]
    words += [
        "--data",
        "--per-class",
        "--steps",
        "--threads",
        "--seed",
        "--device",
        "--out",
        "--set",
        "--teacher",
        "--via",
    ]
    words += [
        "--json",
        "--quiet",
        "--resume",
        "--root",
        "--import",
        "--protocol",
        "--controls",
        "--examples",
        "--features",
    ]
    words += ["--network", "--discrepancies", "--by", "--config", "--report", "mps", "meta", "cpu", "cuda:7", "none"]
    words += [str(samples.artefact), str(samples.npz), str(samples.images), str(folder), str(folder / "new.html")]
    words += [
        "{a: &a [*a]}",
        "[" * 500,
        "!!int ''",
        "0",
        "-1",
        "1",
        "100000000",
        "1e9",
        "x=1",
        "solver.lr=.nan",
        "context=fresh",
    ]
    words += [word.replace("\x00", "") for word in WORDS]
    command = random.choice(
        [
            ["run", "dm", "--data", "digits", "--dry-run", "--quiet"],
            ["show"],
            ["kinds"],
            ["methods"],
            ["evaluate", str(samples.artefact), "--networks", "1", "--set", "epochs=1", "--quiet"],
            ["compare", "digits", "--resamples", "10", "--quiet"],
            ["label", str(samples.artefact), "--out", str(folder / "new.safetensors"), "--quiet", "--set", "rounds=1"],
            ["export", str(samples.artefact)],
            ["sweep", "--dry-run", "--quiet"],
        ]
    )
    return [*command, *random.choices(words, k=random.randint(1, 4))]


SURFACES: dict[str, Case] = {
    "configurations": configuration,
    "assignments": assignment,
    "artefacts": artefact,
    "teachers": teacher,
    "npz files": npz,
    "image folders": images,
    "checkpoints": checkpoint,
    "run folders": run_folder,
    "sweep folders": sweep_folder,
    "sweep files": sweep_file,
    "study folders": study_folder,
    "study files": study_file,
    "command lines": command_line,
}
