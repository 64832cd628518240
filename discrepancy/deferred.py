"""Packages whose public names are loaded when one of them is first used: a list of names needs no torch."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["deferred"]


def deferred(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose public names stand in its module ``public`` (PEP 562).

    The first use of a name imports all of them, so that every kind is registered as soon as one is at hand. Modules of the
    package, such as ``errors``, can be imported without that. No public name may be that of a module of the package.
    """

    def listed() -> list[str]:
        return list(getattr(importlib.import_module(f"{package}.public"), "__all__", ()))  # none while it is imported

    def attribute(name: str) -> Any:
        if name == "__all__":
            return listed()
        if name.startswith("__") or name not in listed():
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(sys.modules[f"{package}.public"], name)
        setattr(sys.modules[package], name, value)
        return value

    return attribute, listed
