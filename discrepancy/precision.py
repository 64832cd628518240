"""What is set for the whole process (autocast, inference mode, default device and type) kept out of what is computed here."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from discrepancy.errors import InvalidInput

__all__ = ["as_usual", "autocasts", "filled", "normal", "normals", "shielded", "without_autocast"]


def normals(generator: torch.Generator, *size: int) -> Tensor:
    """Standard normal numbers, in float32 on the CPU whatever the defaults are.

    Raises:
        InvalidInput: for what is not a generator, or not a size.
    """
    if not isinstance(generator, torch.Generator) or not all(isinstance(part, int) for part in size):
        raise InvalidInput(
            f"random parts are drawn by a torch.Generator for a shape of whole numbers, got a {type(generator).__name__} and "
            f"{size}"
        )
    return torch.randn(*size, generator=generator, device="cpu", dtype=torch.float32)


def filled(value: float, *size: int) -> Tensor:
    """The same number everywhere, in float32 on the CPU whatever the defaults are."""
    return torch.full(size, value, device="cpu", dtype=torch.float32)


def autocasts(kind: str) -> bool:
    """Whether ``torch.autocast`` is on for this type of device."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def without_autocast(kind: str) -> AbstractContextManager[Any]:
    """A context in which products are made in the type of their factors."""
    return torch.autocast(kind, enabled=False) if autocasts(kind) else nullcontext()


def normal(tensor: Tensor) -> Tensor:
    """The tensor; a copy of one that was made in inference mode, which no graph could keep."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


@contextmanager
def as_usual() -> Iterator[None]:
    """Gradients are recorded, tensors are made on the CPU in float32, and there is no autocast; then the caller's settings are
    back. Usable as a decorator."""
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # a context slows every call of torch
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            stack.enter_context(without_autocast(kind))
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


def shielded(kind: str, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """``function`` of these tensors, whose derivatives are made without autocast too, of any order: torch would make the
    backward pass of a product under the autocast that is on when it runs. What is needed is computed again for each."""
    return _Shielded.apply(kind, lambda *tensors: (function(*tensors),), *inputs)[0]  # pyright: ignore


class _Shielded(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(kind: str, function: Callable[..., tuple[Tensor, ...]], *inputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        # As it is where a graph is made, so that the value has the same digits; nothing is kept of the graph.
        with without_autocast(kind), torch.set_grad_enabled(any(item.requires_grad for item in inputs)):
            return tuple(value.detach() for value in function(*inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.kind, ctx.function, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        inputs, function = ctx.saved_tensors, ctx.function
        moving = [place for place, needed in enumerate(ctx.needs_input_grad[2:]) if needed]

        def derivative(*tensors: Tensor) -> tuple[Tensor, ...]:
            given, pull = list(tensors[: len(inputs)]), tensors[len(inputs) :]

            def of(*chosen: Tensor) -> tuple[Tensor, ...]:
                for place, tensor in zip(moving, chosen, strict=True):
                    given[place] = tensor
                return function(*given)

            return torch.func.vjp(of, *(given[place] for place in moving))[1](pull)

        slopes = iter(_Shielded.apply(ctx.kind, derivative, *inputs, *grads))  # pyright: ignore
        return None, None, *(next(slopes) if needed else None for needed in ctx.needs_input_grad[2:])
