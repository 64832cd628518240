"""Attacked examples that are kept on a disk: read bit for bit, or not at all."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import torch
from torch import nn

import objectives.data.cache as room
from discrepancy import MMD, networks
from discrepancy.embeddings import Features
from discrepancy.errors import DataWarning, PerformanceWarning
from discrepancy.kernels import Linear
from objectives.attacks import APGD, PGD
from objectives.condensation import condense
from objectives.contexts import Fresh
from objectives.data.cache import Cache, Kept
from objectives.data.labelled import LabelledData, Normalisation
from objectives.data.real import RealData
from objectives.data.transform import BLOCK
from objectives.engine.runtime import rounding
from objectives.solvers import Descent
from objectives.teacher import Teacher
from objectives.terms.match import Match
from objectives.training.training import Training
from objectives.transforms import Adversarial
from tests.objectives.small import NETWORK, images, start, table

CPU = torch.device("cpu")
DATA = images()
TEACHER = Teacher(network=NETWORK, training=Training(on="real", steps=5, batch=10, lr=0.1), rounds=2)
ADVERSARIAL = Adversarial(attack=PGD(eps=20 / 255, steps=3), teacher=TEACHER)


def points(data: RealData, cache: Cache | None, transform: Adversarial = ADVERSARIAL, seed: int = 0) -> torch.Tensor:
    return transform.applied(data, seed, CPU, cache).rows().points


def kept(data: RealData, cache: Cache, transform: Adversarial = ADVERSARIAL, seed: int = 0) -> Kept:
    found = transform.kept(data, seed, CPU, cache)
    assert found is not None
    return found


def never(*arguments: Any, **named: Any) -> Any:
    raise AssertionError("computed again")


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        monkeypatch.setattr(PGD, "ascend", never)
        monkeypatch.setattr(Teacher, "taught", never)

    return forbid


def floats(dtype: torch.dtype) -> LabelledData:
    data = table()
    return LabelledData.of(data.train.rows().points.to(dtype), data.train.labels.numbers)


SMALL_MOVES = replace(ADVERSARIAL, attack=PGD(eps=2 / 255, steps=3))


@pytest.mark.parametrize(
    ("data", "transform"),
    [
        (DATA, ADVERSARIAL),
        (DATA, SMALL_MOVES),
        (floats(torch.float32), ADVERSARIAL),
        (floats(torch.float64), ADVERSARIAL),
        (images(sizes=(200, 200, 200)), ADVERSARIAL),
    ],
    ids=["bytes", "moves of less than a byte", "float32", "float64", "two blocks"],
)
def test_what_is_read_is_what_was_computed(
    data: LabelledData, transform: Adversarial, tmp_path: Path, only_read: Callable[[], None]
) -> None:
    if len(data.shape) == 1:
        transform = replace(transform, teacher=replace(TEACHER, network=networks.MLP(width=8)))
    alone = points(data.train, None, transform)
    said: list[str] = []
    cache = Cache(tmp_path / "cache", say=said.append)
    assert points(data.train, cache, transform).equal(alone)
    folder = kept(data.train, cache, transform).folder
    assert len(list(folder.glob("*.safetensors"))) == -(-len(data.train) // BLOCK)
    only_read()
    again = points(data.train, cache, transform)
    assert again.dtype == alone.dtype
    assert again.equal(alone)
    assert not again.equal(data.train.rows().points.to(again.dtype))
    wrote, read = (
        f"attacked examples are kept for later runs in '{folder}'",
        f"attacked examples are read from '{folder}'",
    )
    assert said == [wrote, read]


def test_the_files_are_no_copies_of_the_data(tmp_path: Path) -> None:
    """What is stored of bytes is the move, modulo 256; the file and its neighbour that says what it is are all there is."""
    cache = Cache(tmp_path)
    moved = points(DATA.train, cache).int() - DATA.train.rows().points.int()
    folder = kept(DATA.train, cache).folder
    assert sorted(path.name for path in folder.iterdir()) == ["00000.safetensors", "about.json"]
    stored = safetensors.numpy.load((folder / "00000.safetensors").read_bytes())["differences"]
    assert torch.equal(torch.from_numpy(stored.astype("int32")), moved % 256)
    about = json.loads((folder / "about.json").read_text())
    assert about["data"]["fingerprint"] == DATA.train.fingerprint()
    assert about["transform"]["attack"] == {"kind": "pgd", "eps": 20 / 255, "steps": 3}


def of_units(mean: float = 100.0, limits: tuple[float, float] = (0, 255), mirror: bool = False) -> RealData:
    rows = DATA.train.rows()
    return LabelledData.of(
        rows.points, rows.labels.numbers, normalisation=Normalisation((mean,), (50.0,)), limits=limits, mirror=mirror
    ).train


def one_pixel_off() -> RealData:
    rows = DATA.train.rows()
    changed = rows.points.clone()
    changed[3, 0, 2, 2] ^= 1
    return LabelledData.of(changed, rows.labels.numbers).train


def in_another_order() -> RealData:
    rows = DATA.train.rows(torch.arange(31).flip(0))
    return LabelledData.of(rows.points, rows.labels.numbers, mirror=True).train


def other_labels() -> RealData:
    rows = DATA.train.rows()
    return LabelledData.of(rows.points, rows.labels.numbers.roll(1), mirror=True).train


OTHERS: dict[str, tuple[RealData, Adversarial, int]] = {
    "seed": (DATA.train, ADVERSARIAL, 1),
    "radius": (DATA.train, replace(ADVERSARIAL, attack=PGD(eps=19 / 255, steps=3)), 0),
    "steps": (DATA.train, replace(ADVERSARIAL, attack=PGD(eps=20 / 255, steps=4)), 0),
    "norm": (DATA.train, replace(ADVERSARIAL, attack=PGD(eps=20 / 255, steps=3, norm="l2")), 0),
    "attack": (DATA.train, replace(ADVERSARIAL, attack=APGD(eps=20 / 255, steps=3)), 0),
    "rounds": (DATA.train, replace(ADVERSARIAL, teacher=replace(TEACHER, rounds=3)), 0),
    "rate": (DATA.train, replace(ADVERSARIAL, teacher=replace(TEACHER, training=Training(lr=0.2))), 0),
    "network": (DATA.train, replace(ADVERSARIAL, teacher=replace(TEACHER, network=networks.MLP(width=8))), 0),
    "pixel": (one_pixel_off(), ADVERSARIAL, 0),
    "order": (in_another_order(), ADVERSARIAL, 0),
    "labels": (other_labels(), ADVERSARIAL, 0),
    "mean": (of_units(mean=101.0), ADVERSARIAL, 0),
    "limits": (of_units(limits=(0, 300)), ADVERSARIAL, 0),
    "mirror": (of_units(mirror=True), ADVERSARIAL, 0),
    "units": (of_units(), ADVERSARIAL, 0),
}


def test_nothing_is_read_where_anything_differs(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keys = {name: kept(data, cache, transform, seed).key for name, (data, transform, seed) in OTHERS.items()}
    keys["the first"] = kept(DATA.train, cache).key
    assert len(set(keys.values())) == len(keys)
    again = LabelledData.of(
        DATA.train.rows().points.clone(), DATA.train.labels.numbers.clone(), name="else", mirror=True
    )
    assert kept(again.train, cache).key == keys["the first"]


def test_other_code_and_other_rounding_are_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, threads = kept(DATA.train, Cache(tmp_path)).key, torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert kept(DATA.train, Cache(tmp_path)).key != first
    torch.set_num_threads(threads)
    for name, value in (("torch.__version__", "1.0"), ("torch.backends.cpu.get_cpu_capability", lambda: "NEON")):
        with monkeypatch.context() as other:
            other.setattr(name, value)
            assert kept(DATA.train, Cache(tmp_path)).key != first
    assert kept(DATA.train, Cache(tmp_path)).key == first
    monkeypatch.setattr(room, "library_hash", lambda: "0")
    assert kept(DATA.train, Cache(tmp_path)).key != first


def test_the_hash_of_the_library_is_that_of_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("discrepancy", "objectives"):
        (tmp_path / name / "rooms").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "rooms" / "one.py").write_text("x = 1")
        monkeypatch.setattr(getattr(room, name), "__file__", str(tmp_path / name / "__init__.py"))
    found = room.library_hash.__wrapped__()
    (tmp_path / "objectives" / "rooms" / "one.py").write_text("x = 2")
    assert room.library_hash.__wrapped__() != found
    (tmp_path / "objectives" / "rooms" / "one.py").write_text("x = 1")
    assert room.library_hash.__wrapped__() == found


def test_a_teacher_that_is_given_counts_with_what_is_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    given = replace(ADVERSARIAL, teacher=replace(TEACHER, weights=(str(file),)))
    keys = []
    for seed in (0, 1, 0):
        TEACHER.taught(DATA.train, seed=seed).save(file)
        keys.append(kept(DATA.train, Cache(tmp_path), given).key)
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]


def test_code_of_your_own_is_not_trusted(tmp_path: Path) -> None:
    networks.register_module(
        "of_a_cache_test", lambda n: nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, n))
    )
    own = networks.Backbone(module="of_a_cache_test", layer="1")
    said: list[str] = []
    transform = replace(ADVERSARIAL, teacher=replace(TEACHER, network=own))
    points(DATA.train, Cache(tmp_path / "cache", say=said.append), transform)
    assert said == [
        "attacked examples are not kept for later runs, since 'backbone' is code of your own, which may change"
    ]
    assert not (tmp_path / "cache").exists()
    assert networks.Backbone(module="resnet18").packaged


def damages(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in (9, 60, middle, len(content) - 1)]
    ends = {"empty": b"", "cut": content[:-3], "half": content[:middle], "longer": content + b"\0"}
    return ends | {f"bit {number}": text for number, text in enumerate(flipped)}


def test_a_damaged_file_is_computed_again_and_replaced(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    right = points(DATA.train, cache)
    file = kept(DATA.train, cache).folder / "00000.safetensors"
    content = file.read_bytes()
    points(DATA.train, cache, seed=1)
    other = kept(DATA.train, cache, seed=1).folder / file.name
    found = safetensors.numpy.load(content)
    forms = {
        "of another seed": other.read_bytes(),
        "without a hash": safetensors.numpy.save({"differences": found["differences"]}),
        "of another shape": safetensors.numpy.save({**found, "differences": found["differences"][:-1]}),
        "of another type": safetensors.numpy.save({**found, "differences": found["differences"].astype("uint16")}),
    }
    for name, wrong in (damages(content) | forms).items():
        file.write_bytes(wrong)
        with pytest.warns(
            DataWarning, match=r"00000.safetensors' is damaged; its attacked examples are computed again"
        ):
            assert points(DATA.train, cache).equal(right), name
        assert file.read_bytes() == content


def test_a_block_is_not_taken_for_another(tmp_path: Path) -> None:
    data, cache = images(sizes=(400, 400, 400)), Cache(tmp_path)
    right = points(data.train, cache)
    folder = kept(data.train, cache).folder
    first, second = (folder / f"0000{number}.safetensors" for number in range(2))
    first.write_bytes(second.read_bytes())
    with pytest.warns(DataWarning, match="00000.safetensors' is damaged"):
        assert points(data.train, cache).equal(right)


def test_a_file_that_cannot_be_read_is_computed_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    right = points(DATA.train, cache)
    file = kept(DATA.train, cache).folder / "00000.safetensors"
    file.unlink()
    file.mkdir()
    with pytest.warns(UserWarning, match=r"cannot be read|not kept") as caught:
        assert points(DATA.train, cache).equal(right)
    assert {item.category for item in caught} == {DataWarning, PerformanceWarning}


def test_a_place_that_cannot_be_written_to_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    data = images(sizes=(400, 400, 400))
    with pytest.warns(PerformanceWarning, match=r"^attacked examples are not kept for later runs, .*'.*file") as caught:
        found = points(data.train, Cache(tmp_path / "file"))
    assert len(caught) == 1
    assert found.equal(points(data.train, None))


def test_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("objectives.storage.os.fsync", full)
    with pytest.warns(PerformanceWarning, match="No space left on device"):
        found = points(DATA.train, Cache(tmp_path))
    assert found.equal(points(DATA.train, None))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_cache_that_must_not_be_written_is_read(tmp_path: Path, only_read: Callable[[], None]) -> None:
    cache = Cache(tmp_path / "cache")
    right = points(DATA.train, replace(cache, writes=False))
    assert not cache.folder.exists()
    points(DATA.train, cache)
    only_read()
    assert points(DATA.train, replace(cache, writes=False)).equal(right)


WRITING = """
import sys
import torch
from pathlib import Path
from objectives.data.cache import Cache, Kept

real = torch.arange(1200, dtype=torch.int32).to(torch.uint8).reshape(400, 3)
kept = Kept(Cache(Path(sys.argv[1])), "attacked", {"of": "a test"}, torch.uint8)
for turn in range(100):
    for block in range(3):
        kept.write(block, real, real + block + 1)
        found = kept.read(block, real)
        assert found is not None and found.equal(real + block + 1)
"""


def test_processes_write_and_read_the_same_files_at_the_same_time(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", WRITING, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        assert process.communicate(timeout=300)[1] == ""
        assert process.returncode == 0
    assert not list(tmp_path.rglob("*.tmp"))


def objective() -> Match:
    return Match(MMD(kernel=Linear()), via=Features(), transform=ADVERSARIAL)


def condensed(**options: Any) -> torch.Tensor:
    context = Fresh(network=NETWORK, batch=4)
    return condense(DATA, objective(), context=context, per_class=1, steps=4, compile="never", **options).points


def test_condensing_is_the_same_with_and_without_a_cache(tmp_path: Path, only_read: Callable[[], None]) -> None:
    states: list[dict[str, Any]] = []

    def on_step(progress: Any) -> None:
        if progress.step == 2:
            states.append(progress.state())

    alone, first = condensed(on_step=on_step), condensed(cache=tmp_path / "cache")
    assert alone.equal(first)
    resumed = condensed(state=states[0])
    only_read()
    assert alone.equal(resumed)
    assert alone.equal(condensed(cache=str(tmp_path / "cache")))
    assert alone.equal(condensed(cache=tmp_path / "cache", state=states[0]))


def test_nothing_is_written_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "DISCREPANCY_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    condensed()
    assert not list(tmp_path.iterdir())


def test_a_kept_attack_costs_no_passes_and_changes_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether networks are compiled must not depend on what is kept, or the last bits would."""
    decided: list[float] = []
    monkeypatch.setattr(
        "objectives.engine.bound_context.eager_seconds", lambda work, device: decided.append(work) or 0.0
    )
    cache, solver = Cache(tmp_path), Descent(lr=0.5, steps=10)
    options: dict[str, Any] = {"context": Fresh(network=NETWORK, batch=5), "cache": cache}
    passes = []
    for _ in range(2):
        context = start(DATA, objective(), solver, **options).bound_context
        assert context is not None
        passes.append(context.images(10, 6))
        points(DATA.train, cache)
    saved = passes[0] - passes[1]
    assert saved == TEACHER.passes(31) + 31 * ADVERSARIAL.attack.passes
    assert decided[0] > 0
    assert len(set(decided)) == 1


def test_rounding_is_that_of_the_device() -> None:
    assert rounding(CPU)["threads"] == torch.get_num_threads()
    assert rounding(CPU)["device"] == "cpu"
