"""Damage: random changes of bytes, of texts, of plain trees, and of the tensors and metadata of safetensors files."""

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import safetensors
import safetensors.torch
import torch

CONTROL = ["\x1b[2J\x1b[31m", "\x07", "\r", "\x00", "\u202e", "\x9b1m", "a\nb", "\ud800", "[bold]", "{x}", "%s"]
WORDS = [
    *CONTROL,
    "",
    " ",
    ".",
    "..",
    "../../x",
    "/",
    "~",
    "~nouser",
    "~nouser/x",
    "é" * 90,
    "x" * 300,
    "x" * 5000,
    "null",
]
NUMBERS: list[Any] = [0, -1, 1, 2, 10**6, 10**12, 2**31, 2**63, 10**30, 1e-300, 1e308, 0.5, -0.0, True]
NUMBERS += [float("nan"), float("inf"), -float("inf")]
VALUES: list[Any] = [
    None,
    [],
    {},
    [None],
    {"kind": "x"},
    {"kind": None},
    [[1]],
    {"": 1},
    "auto",
    "real",
    "digits",
    False,
]


def value(random: Random) -> Any:
    """Any value that a tree may hold."""
    return copy.deepcopy(random.choice(random.choice([WORDS, NUMBERS, VALUES])))


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


def damaged_bytes(random: Random, content: bytes) -> bytes:
    """Bits flipped, a stretch cut out, repeated or zeroed, the end cut off, or another file altogether."""
    found = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 5, 20])):
        at = random.randrange(len(found)) if found else 0
        length = random.choice([1, 4, 16, 200])
        match random.randrange(8):
            case 0 | 1 | 2 if found:
                found[at] ^= 1 << random.randrange(8)
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = found[at : at + length]
            case 5:
                found[at : at + length] = bytes(len(found[at : at + length]))
            case 6:
                del found[at:]
            case _:
                found[at:at] = random.randbytes(length)
    other = [b"", b"\x80\x04N.", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\xff\xfe", b"[]", b"{}", b"null"]
    return random.choice(other) if random.random() < 0.05 else bytes(found)


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a tree."""
    found = [at] if at else []
    if isinstance(tree, dict | list):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            found += places(item, (*at, key))
    return found


def damaged_tree(random: Random, tree: Any, changes: int = 2) -> Any:
    """A tree with some of its values replaced, left out, renamed, repeated or nested."""
    tree = copy.deepcopy(tree)
    for _ in range(random.randint(1, changes)):
        known = places(tree)
        if not known:
            return value(random)
        *above, last = random.choice(known)
        node = tree
        for step in above:
            node = node[step]
        match random.randrange(7):
            case 0 if isinstance(node, dict):
                del node[last]
            case 1 if isinstance(node, dict):
                node[str(value(random))[:400]] = node.pop(last)
            case 2 if isinstance(node, dict):
                node[random.choice(["kind", "extra", "per_class", "path", "weights"])] = value(random)
            case 3:
                node[last] = [node[last]] * random.choice([1, 2, 50])
            case 4 if random.random() < 0.1:
                node[last] = deep(random.choice([20, 200, 900]))
            case _:
                node[last] = value(random)
    return tree


def damaged_tensor(random: Random, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of another type, shape or content."""
    match random.randrange(9):
        case 0:
            return tensor.to(random.choice([torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.complex64]))
        case 1:
            return tensor[: random.randint(0, len(tensor))]
        case 2:
            return tensor.reshape(-1)
        case 3:
            return tensor[None]
        case 4:
            return torch.zeros(())
        case 5 if tensor.numel():
            changed = tensor.clone().reshape(-1)
            number = random.choice([float("nan"), float("inf"), -1, 99, 1e30])
            if changed.is_floating_point() or abs(number) < 1e3:
                changed[random.randrange(len(changed))] = number
            return changed.reshape(tensor.shape)
        case 6:
            return torch.zeros(0)
        case 7:
            return -tensor if tensor.dtype != torch.bool else tensor
    return torch.cat([tensor, tensor])


def damaged_safetensors(random: Random, source: Path, to: Path, entry: str) -> None:
    """A copy with other tensors, other metadata under ``entry``, or other bytes."""
    if random.random() < 0.2:
        to.write_bytes(damaged_bytes(random, source.read_bytes()))
        return
    with safetensors.safe_open(source, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()[entry])
    if random.random() < 0.3:
        name = random.choice(list(tensors))
        match random.randrange(4):
            case 0:
                del tensors[name]
            case 1:
                tensors[random.choice(["slots", "labels", "parameters/x", "x/y", "extra"])] = tensors[name].clone()
            case _:
                tensors[name] = damaged_tensor(random, tensors[name])
    if random.random() < 0.8:
        about = damaged_tree(random, about, 3)
    text = json.dumps(about)
    if random.random() < 0.05:
        text = damaged_bytes(random, text.encode()).decode("utf-8", "replace")
    safetensors.torch.save_file({name: item.contiguous() for name, item in tensors.items()}, to, {entry: text})
