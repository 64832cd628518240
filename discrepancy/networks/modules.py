"""Modules as pure functions: a skeleton without weights, and the weights beside it.

Names are those of torchvision's classifiers, or those under which a constructor was registered. Evaluation mode throughout, so
that batch normalisation and dropout look at one example at a time.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from discrepancy.errors import InvalidInput, Unsupported, nearest, out_of_memory
from discrepancy.parts import user_path

__all__ = ["check_known", "close_to", "drawn", "is_registered", "outer_names", "read", "register_module", "skeleton"]

_REGISTERED: dict[str, Callable[[int], nn.Module]] = {}
_SKELETONS: dict[tuple[str, int], nn.Module] = {}


def register_module(name: str, build: Callable[[int], nn.Module]) -> None:
    """Make ``build(outputs)``, a module with random weights and a classifier of so many outputs, known under a name.

    With timm, for instance, ``register_module("deit", lambda n: timm.create_model("deit_tiny_patch16_224", num_classes=n))``.

    Args:
        name: for ``Backbone(module=name)``.
        build: makes the module from the number of outputs.

    Raises:
        InvalidInput: if another module has this name.

    Example:
        >>> from torch import nn
        >>> from discrepancy import networks
        >>> def build(outputs):
        ...     return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, outputs))
        >>> networks.register_module("two_layers", build)
        >>> networks.Backbone(module="two_layers", layer="1").shapes((6,), classes=10, take=("features", "logits"))
        {'features': (4,), 'logits': (10,)}
    """
    if _REGISTERED.get(name, build) is not build:
        raise InvalidInput(f"a module '{name}' is already registered; choose another name")
    _REGISTERED[name] = build


def is_registered(name: str) -> bool:
    """Whether a user has registered it, and torchvision does not define it."""
    return name in _REGISTERED


def check_known(name: str) -> None:
    """Refuses a name that is neither registered nor torchvision's."""
    known = [*_REGISTERED, *_torchvision()]
    if name not in known:
        others = f", or one of {', '.join(_REGISTERED)}" if _REGISTERED else ""
        raise InvalidInput(
            f"'module' must be the name of a classifier of torchvision{others}, got '{name}'{close_to(name, known)}; "
            "register_module(name, constructor) makes others known"
        )


def close_to(name: str, known: list[str]) -> str:
    """``, did you mean '...'?``, or nothing."""
    near = nearest(name, known)
    return f", did you mean '{near}'?" if near else ""


@lru_cache(maxsize=1)
def _torchvision() -> tuple[str, ...]:
    from torchvision import models

    return tuple(models.list_models(module=models))


class _Drawing(TorchDispatchMode):
    """Within it every random operation draws from the generator, and none from the global state."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            if all(argument.name != "generator" for argument in func._schema.arguments):
                if "generator" not in func.overloadpacket.overloads():
                    raise Unsupported(f"a module's constructor draws by '{func}', which takes no generator")
                func = func.overloadpacket.generator
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)


def drawn(name: str, outputs: int, generator: torch.Generator) -> nn.Module:
    """A module as its own constructor initialises it, with every random number from the generator."""
    check_known(name)
    with _Drawing(generator), torch.device("cpu"):
        if name in _REGISTERED:
            return _REGISTERED[name](outputs)
        from torchvision import models

        return models.get_model(name, weights=None, num_classes=outputs)


def skeleton(name: str, outputs: int) -> nn.Module:
    """A module in evaluation mode whose parameters are on the meta device; buffers keep their values. It is made once."""
    if (name, outputs) not in _SKELETONS:
        _SKELETONS[name, outputs] = _bared(name, outputs)
    return _SKELETONS[name, outputs]


def _bared(name: str, outputs: int) -> nn.Module:
    module = drawn(name, outputs, torch.Generator()).eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            raise InvalidInput(
                f"'{name}' has batch normalisation without running statistics, so outputs depend on the batch; build it with "
                "track_running_stats=True"
            )
        for key, value in part._parameters.items():
            if value is not None:
                part._parameters[key] = nn.Parameter(value.detach().to("meta"), requires_grad=False)
    return module


def outer_names(module: nn.Module) -> Iterator[str]:
    """The names of the children, and of their members where they are sequences."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential):
            yield from (f"{name}.{member}" for member, _ in child.named_children())
        else:
            yield name


def read(path: str, name: str, module: nn.Module) -> dict[str, Tensor]:
    """The floating-point tensors of a safetensors file that holds this module's state."""
    place = user_path("weights", path)
    if not place.is_file():
        raise InvalidInput(f"'weights' must be the path of a safetensors file, got '{path}', where there is none")
    try:
        found = safetensors.torch.load_file(place)
    except (safetensors.SafetensorError, OSError) as error:
        if out_of_memory(error):
            raise
        raise InvalidInput(
            f"'{path}' is not a safetensors file ({error}); write it by safetensors.torch.save_file(module.state_dict(), path)"
        ) from None
    state = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
    tied = dict(module.named_parameters()).keys()
    needed = [key for key in state if key in tied or not isinstance(state[key], nn.Parameter)]
    found = {key: value for key, value in found.items() if value.is_floating_point()}
    wrong = [key for key in needed if key in found and found[key].shape != state[key].shape]
    mistakes = [
        *_listed("missing", [key for key in needed if key not in found]),
        *_listed("unexpected", [key for key in found if key not in state]),
        *_listed("of another shape", [f"{k} {tuple(found[k].shape)} for {tuple(state[k].shape)}" for k in wrong]),
    ]
    if mistakes:
        remedy = "give 'outputs'" if wrong else "give the right 'module'"
        raise InvalidInput(f"'{path}' does not hold the state of '{name}': {'; '.join(mistakes)}; {remedy}")
    return {key: found[key].float() for key in needed}


def _listed(what: str, names: list[str], most: int = 6) -> list[str]:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{what} {', '.join(names[:most])}{more}"] if names else []
