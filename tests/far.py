"""A pretend accelerator: tensors on the device ``far:0`` have their values on the CPU, but mixing them with CPU tensors fails.

It finds, on a machine without a GPU, what would fail or stall on one: tensors made on the wrong device, generators of the wrong
device, and points where the host waits for a result (``.item()``, ``bool(tensor)``, copies to the host, boolean masks, sizes
that depend on values). Those are counted. Values are computed by the CPU's own operators, so they are the CPU's to rounding.

    register()
    with pretend() as device:
        x = torch.randn(3).to(device)
        x + torch.ones(3)          # RuntimeError: aten::add.Tensor mixes devices ...
        host_waits()               # {}: nothing was read

It sees eager code in one process; ``torch.compile`` looks through it. It needs torch 2.10 or newer.
:func:`uploads` counts copies to the device from pageable memory without ``non_blocking=True``: the host waits for those too.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["SUPPORTED", "FarTensor", "host_waits", "pretend", "register", "uploads"]

SUPPORTED = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 10)
"""Whether this torch lets a device live in Python."""

aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
INDEXING = frozenset(
    f"aten::{name}"
    for name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
)
READING = frozenset(
    f"aten::{name}"
    for name in (
        "_local_scalar_dense",
        "equal",
        "nonzero",
        "nonzero_numpy",
        "argwhere",
        "masked_select",
        "unique_dim",
        "_unique",
        "_unique2",
        "unique_consecutive",
        "unique_dim_consecutive",
        "bincount",
        "multinomial",
        "_linalg_check_errors",
        "_linalg_eigh",
        "_linalg_svd",
        "linalg_eig",
        "_linalg_eigvals",
    )
)
"""Operators of which the CUDA version waits: their size or their error depends on values."""

_waits: Counter[str] = Counter()
_uploads: Counter[str] = Counter()


class FarTensor(Tensor):
    """A tensor on the pretend device; ``near`` holds its values on the CPU."""

    near: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: Tensor) -> "FarTensor":
        made = Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            layout=near.layout,
            device=torch.device("far", 0),
        )
        made.near = near
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"FarTensor({self.near!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A file holds the values."""
        return self.near.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(func, args, kwargs or {})


def host_waits() -> dict[str, int]:
    """How often the host waited for the device since :func:`pretend` was entered, by operator."""
    return dict(_waits)


def uploads() -> int:
    """Blocking copies from the host to the device since then, with those of indices that were on the CPU."""
    return _uploads.total()


@contextmanager
def pretend() -> Iterator[torch.device]:
    """Within it ``torch.device("far:0")`` works. Counting starts anew.

    Raises:
        RuntimeError: without :func:`register`.
    """
    if not _registered:
        raise RuntimeError("there is no device 'far'; call register() before the first backward pass of the process")
    _waits.clear()
    _uploads.clear()
    with _Functions(), _Operators():
        yield torch.device("far", 0)


def _called(func: Any, args: Any, kwargs: Any) -> Any:
    """An operator on the values of its arguments; its results live where those of a GPU would."""
    leaves = _leaves((args, kwargs))
    far = [leaf for leaf in leaves if isinstance(leaf, FarTensor)]
    wanted = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    name = func._schema.name
    there = bool(far) if wanted is None else wanted.type == "far"
    _check(func, name, args, leaves, far, there)
    if far and _reads(func, name, args, kwargs, leaves, wanted):
        _waits[name] += 1
    if _sends(func, name, args, kwargs, leaves, there):
        _uploads[name] += 1
    out = func(*_mapped(_near, args), **_mapped(_near, kwargs))
    if func._schema.is_mutable and "out" in kwargs:
        return kwargs["out"]
    if torch.Tag.inplace_view in func.tags and far:
        with no_dispatch():
            func(*args, **kwargs)  # the wrapper's own shape
    if name.endswith("_") and args and isinstance(args[0], Tensor):
        return args[0]
    return _mapped(_far, out) if there else out


def _check(func: Any, name: str, args: Any, leaves: list[Any], far: list[FarTensor], there: bool) -> None:
    """What a GPU refuses: tensors of two devices, but for single numbers and for indices; a generator of the other device."""
    if there and any(isinstance(leaf, torch.Generator) and leaf.device.type != "far" for leaf in leaves):
        raise RuntimeError(f"{func} on the accelerator was given a generator of the CPU; draw on the CPU and move")
    if not far or func in COPIES:
        return
    if name in INDEXING:
        leaves = [leaf for leaf in args if isinstance(leaf, Tensor)]  # without the indices, which may be on the CPU
        if not isinstance(args[0], FarTensor):
            raise RuntimeError(f"{func} indexes a tensor of the CPU by one of the accelerator")
    near = [leaf for leaf in leaves if _on_host(leaf) and leaf.dim() > 0]
    if near:
        raise RuntimeError(
            f"{func} mixes devices: on the accelerator {[tuple(leaf.shape) for leaf in far]}, on the CPU "
            f"{[tuple(leaf.shape) for leaf in near]}"
        )


def _reads(func: Any, name: str, args: Any, kwargs: Any, leaves: list[Any], wanted: torch.device | None) -> bool:
    """Whether the host waits: values come to it, or the size of the result depends on them."""
    if name in READING:
        return True
    if name == "aten::repeat_interleave":
        return kwargs.get("output_size") is None
    if name in INDEXING:
        masks = [leaf for leaf in leaves if isinstance(leaf, FarTensor) and leaf.dtype in (torch.bool, torch.uint8)]
        masks = [mask for mask in masks if mask is not args[0]]
        filled = "index_put" in name and _on_host(args[2]) and args[2].numel() == 1  # a masked fill
        return bool(masks) and not filled
    if func is aten._to_copy.default:
        return wanted is not None and wanted.type == "cpu"
    return func is aten.copy_.default and not isinstance(args[0], FarTensor)


def _sends(func: Any, name: str, args: Any, kwargs: Any, leaves: list[Any], there: bool) -> bool:
    """Whether the host waits until values of its own have been copied to the device."""
    if name in INDEXING:
        return isinstance(args[0], FarTensor) and any(_on_host(leaf) for leaf in args[1])
    free = kwargs.get("non_blocking") or (func is aten.copy_.default and len(args) > 2 and args[2])
    if func not in COPIES or free or not any(_on_host(leaf) for leaf in leaves):
        return False
    return there or isinstance(args[0], FarTensor)


def _leaves(tree: Any) -> list[Any]:
    """What stands in nested lists, tuples and dictionaries; torch's own function takes many times as long."""
    if isinstance(tree, list | tuple):
        return [leaf for item in tree for leaf in _leaves(item)]
    return _leaves(list(tree.values())) if isinstance(tree, dict) else [tree]


def _mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, list | tuple):
        return type(tree)([_mapped(change, item) for item in tree])
    return {key: _mapped(change, item) for key, item in tree.items()} if isinstance(tree, dict) else change(tree)


def _on_host(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, FarTensor)


def _near(leaf: Any) -> Any:
    if isinstance(leaf, FarTensor):
        return leaf.near
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == "far" else leaf


def _far(leaf: Any) -> Any:
    return FarTensor(leaf) if _on_host(leaf) else leaf


def _copied(source: Tensor, target: Tensor) -> Tensor:
    _near(target).copy_(_near(source))
    return target


class _Operators(TorchDispatchMode):
    """Sees operators whose arguments are all on the CPU too: those that make a tensor on a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch does in C++ below the operators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and device is not None:
            if torch.device(device).type == "far":
                return func(*args, **{**kwargs, "device": "cpu"}).to(device)
        elif func is Tensor.__setitem__ and isinstance(args[0], FarTensor) and isinstance(args[2], bool | int | float):
            return func(args[0], args[1], torch.tensor(args[2], dtype=args[0].dtype))  # as torch does for CUDA alone
        elif func is Tensor.tolist and isinstance(args[0], FarTensor):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


def register() -> None:
    """Give torch's free backend the name ``far``: once in a process, before its first backward pass, since autograd starts no
    thread for a device that comes later. Not in a process that uses a real accelerator, whose place it takes.

    Raises:
        RuntimeError: from torch older than 2.10.
    """
    if not SUPPORTED:
        raise RuntimeError(f"the pretend accelerator needs torch >= 2.10, this is {torch.__version__}")
    if _registered:
        return
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend("far")
    torch.far.get_rng_state = lambda device="far": torch.get_rng_state()  # asked for by torch.random.fork_rng
    torch.far.set_rng_state = lambda state, device="far": torch.set_rng_state(state)
    library = torch.library.Library("aten", "IMPL", "PrivateUse1")
    library.impl("empty_strided", _strided)
    library.impl("empty.memory_format", lambda size, *, dtype=None, **_: FarTensor(torch.empty(size, dtype=dtype)))
    library.impl("_copy_from", lambda source, target, non_blocking=False: _copied(source, target))
    _registered.append(library)


def _strided(size: Any, stride: Any, *, dtype: torch.dtype | None = None, **_: Any) -> FarTensor:
    return FarTensor(torch.empty_strided(size, stride, dtype=dtype))


_registered: list[torch.library.Library] = []
