"""The hook that checks shapes and types in every test: jaxtyping's, with a decorator that costs less a call.

``jaxtyping.jaxtyped(typechecker=...)`` binds the arguments by ``inspect`` and checks them twice, before the call and again with
the result. Here beartype checks arguments and result once, inside jaxtyping's context of sizes where an annotation has some;
what is refused is the same. Checks double the time of the tests, so of a function that a test calls over and over only the
first ``ALL`` calls are checked, and of the rest one in ``SOME``.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, config, install_import_hook

__all__ = ["ALL", "SOME", "Test", "decorator", "install", "strict"]

ALL, SOME = 20, 16

original = jaxtyping.jaxtyped
sizes = original("context")
"""Within it a name of an axis means one size. It holds nothing of its own, so one serves all calls."""
strict = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeCheckError))
"""Takes an int where a float is asked for."""


class Test:
    """The test that runs."""

    number = 0


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
    checked: Callable[..., Any] | None = None
    test, calls = -1, 0

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked, test, calls
        if test != Test.number:
            test, calls = Test.number, 0
        calls += 1
        if config.jaxtyping_disable or (calls > ALL and calls % SOME):
            return target(*args, **kwargs)
        if checked is None:
            checked = typechecker(target)
            if has_sizes(target.__annotations__.values()):
                checked = within_sizes(checked)
        return checked(*args, **kwargs)

    return call


def within_sizes(checked: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with sizes:
            return checked(*args, **kwargs)

    return call


def has_sizes(hints: Any) -> bool:
    """Whether one of the hints is an array, or has one among its arguments; a hint that is a text may be one."""
    return any(
        isinstance(hint, str)
        or (inspect.isclass(hint) and issubclass(hint, AbstractArray))
        or (get_origin(hint) is not Literal and has_sizes(hint if isinstance(hint, list) else get_args(hint)))
        for hint in hints
    )
