"""The hook that checks shapes and types in every test: jaxtyping's, with a decorator that costs less a call.

``jaxtyping.jaxtyped(typechecker=...)`` binds the arguments by ``inspect`` and checks them twice, before the call and again with
the result. Here beartype checks arguments and result once, inside jaxtyping's context of sizes; what is refused is the same.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, config, install_import_hook

__all__ = ["install", "strict"]

original = jaxtyping.jaxtyped
sizes = original("context")
"""Within it a name of an axis means one size. It holds nothing of its own, so one serves all calls."""
strict = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeCheckError))
"""Takes an int where a float is asked for."""


def install(*packages: str) -> None:
    """Check every function of these packages, which must not be imported yet."""
    jaxtyping.jaxtyped = decorator  # the name that the hook writes in front of every function and class
    install_import_hook(packages, "checked.strict")


def decorator(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return functools.partial(decorated, typechecker=typechecker)


def decorated(target: Any, typechecker: Callable[[Any], Any]) -> Any:
    if inspect.isclass(target):
        if dataclasses.is_dataclass(target) and "__init__" in vars(target):
            target.__init__ = decorated(target.__init__, typechecker)
        return target
    if inspect.isgeneratorfunction(target) or not inspect.isfunction(target):
        return original(target, typechecker=typechecker)
    checked = typechecker(target)

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if config.jaxtyping_disable:
            return target(*args, **kwargs)
        with sizes:
            return checked(*args, **kwargs)

    return call
