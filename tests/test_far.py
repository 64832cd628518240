"""The pretend accelerator itself: it refuses what a GPU refuses, counts what a GPU waits for, and changes no value."""

from collections.abc import Callable

import far
import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.cuda

MISTAKES: dict[str, Callable[[Tensor], object]] = {
    "sum": lambda x: x + torch.ones(3),
    "product": lambda x: x @ torch.ones(3),
    "stack": lambda x: torch.stack([x, torch.ones(3)]),
    "in place": lambda x: torch.ones(3).add_(x),
    "where": lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, 0.0),
    "index of a CPU tensor": lambda x: torch.ones(3)[x.long()],
    "values that are put": lambda x: x.index_put_((torch.zeros(2, dtype=torch.long),), torch.ones(2)),
    "generator": lambda x: torch.randn(3, device=x.device, generator=torch.Generator()),
}

FREE: dict[str, Callable[[Tensor], object]] = {
    "a number of the CPU": lambda x: x + torch.tensor(2.0),
    "a number put at an index": lambda x: x.__setitem__(0, 2.0),
    "a number put at a mask": lambda x: x.__setitem__(x > 0, 2.0),
    "a copy on the device": lambda x: x.clone().copy_(x),
    "a change of type": lambda x: x.double(),
    "count_nonzero": lambda x: x.count_nonzero(),
    "repeats of known total": lambda x: x.repeat_interleave(torch.arange(3, device=x.device), output_size=3),
    "cholesky_ex": lambda x: torch.linalg.cholesky_ex(torch.eye(3, device=x.device)),
}

WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "bool": lambda x: bool(x[0]),
    "float": lambda x: float(x[0]),
    "a number as an index": lambda x: x[x.argmax()],
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "a copy into a CPU tensor": lambda x: torch.ones(3).copy_(x),
    "mask": lambda x: x[x > 0],
    "values of the device put at a mask": lambda x: x.__setitem__(x > 0, x[:1]),
    "nonzero": lambda x: x.nonzero(),
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
    "repeats": lambda x: x.repeat_interleave(torch.arange(3, device=x.device)),
    "cholesky": lambda x: torch.linalg.cholesky(torch.eye(3, device=x.device)),
    "eigh": lambda x: torch.linalg.eigh(torch.eye(3, device=x.device)),
}

SENDING: dict[str, Callable[[Tensor], object]] = {
    "to": lambda x: torch.ones(3).to(x.device),
    "tensor": lambda x: torch.tensor([1.0], device=x.device),
    "copy": lambda x: x.copy_(torch.ones(3)),
    "index": lambda x: x[torch.zeros(2, dtype=torch.long)],
}


@pytest.fixture
def x(pretended: torch.device) -> Tensor:
    return torch.tensor([0.5, -1.0, 2.0]).to(pretended)


@pytest.mark.parametrize("name", MISTAKES)
def test_what_a_gpu_refuses_is_refused(name: str, x: Tensor) -> None:
    with pytest.raises(RuntimeError, match=r"mixes devices|indexes a tensor of the CPU|generator of the CPU"):
        MISTAKES[name](x)


@pytest.mark.parametrize("name", FREE)
def test_what_a_gpu_does_on_its_own_is_not_counted(name: str, x: Tensor) -> None:
    FREE[name](x)
    assert far.host_waits() == {}


@pytest.mark.parametrize("name", WAITING)
def test_what_a_gpu_waits_for_is_counted(name: str, x: Tensor) -> None:
    WAITING[name](x)
    assert sum(far.host_waits().values()) == 1


@pytest.mark.parametrize("name", SENDING)
def test_blocking_copies_to_the_device_are_counted(name: str, x: Tensor) -> None:
    before = far.uploads()
    SENDING[name](x)
    assert far.uploads() == before + 1
    assert far.host_waits() == {}


def test_copies_that_do_not_block_are_not_counted(x: Tensor) -> None:
    before = far.uploads()
    torch.ones(3).to(x.device, non_blocking=True)
    x.copy_(torch.ones(3), non_blocking=True)
    assert far.uploads() == before


def test_operators_of_the_cpu_alone_are_neither_refused_nor_counted(x: Tensor) -> None:
    assert float((torch.ones(3) @ torch.ones(3))[None][0]) == 3
    assert torch.ones(3)[torch.ones(3) > 0].tolist() == [1, 1, 1]
    assert far.host_waits() == {}


def test_derivatives_and_shapes_are_those_of_the_cpu(pretended: torch.device) -> None:
    def function(a: Tensor, b: Tensor) -> Tensor:
        rows = torch.func.vmap(lambda row: (row * b).exp().sum())(a)
        return (rows @ a).square().sum() + torch.func.grad(lambda c: (a @ c).cos().sum())(b).sum()

    values = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double(),
        torch.tensor([0.5, -1.0, 2.0]).double(),
    )
    near = [value.clone().requires_grad_() for value in values]
    there = [value.to(pretended).requires_grad_() for value in values]
    function(*near).backward()
    function(*there).backward()
    for a, b in zip(near, there, strict=True):
        assert b.grad is not None
        assert b.grad.device == pretended
        torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-12, atol=0)
    squeezed = there[1].detach()[None].squeeze_(0)
    assert squeezed.shape == (3,)
