"""The device that a user names."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from discrepancy.errors import InvalidInput

__all__ = ["DEVICE", "chosen_device", "wrong_device"]


def chosen_device(name: str) -> torch.device:
    """``auto`` is a CUDA device where there is one, else the CPU.

    Raises:
        InvalidInput: on an unknown name, or a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    message = f"'device' must be auto, cpu, cuda or cuda:NUMBER, got '{name[:40]}'"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(message) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type not in ("cuda", own_accelerator()):
        raise InvalidInput(message)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(f"'device' is {name}, but torch sees no CUDA device here; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInput(f"'device' is {name}, but torch sees {torch.cuda.device_count()} here, numbered from 0")
    return device


def wrong_device(name: str) -> list[str]:
    """What :func:`chosen_device` says against a name, if anything."""
    try:
        chosen_device(name)
    except InvalidInput as error:
        return [str(error)]
    return []


def own_accelerator() -> str:
    """The device type that another package has registered with torch; empty where there is none."""
    name = torch._C._get_privateuse1_backend_name()
    return "" if name == "privateuseone" else name


DEVICE: Mapping[str, Callable[[str], Any]] = {"device": chosen_device}
"""For the ``checks`` of a class with the field ``device``: it is looked at even where other fields are wrong."""
