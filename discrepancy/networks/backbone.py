"""Networks that others have made, and perhaps trained, as embeddings."""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from discrepancy.errors import InvalidInput
from discrepancy.networks.base import OUTPUTS, Network, NetworkParameters, Statistics, layer_outputs
from discrepancy.networks.modules import check_known, close_to, drawn, is_registered, outer_names, read, skeleton
from discrepancy.parts import check_choice, user_path

__all__ = ["Backbone"]

IMAGENET = 1000
EMBEDDING = "embedding."
"""Before the names of the parameters where the classifier is for other classes than those of the data."""


class Backbone(Network, kind="backbone"):
    """A classifier of torchvision, or a registered module, whose features are the output of one of its layers, flat.

    It runs in evaluation mode, so it is pointwise: batch normalisation uses its running statistics, and nothing is dropped. The
    parameters go by the names of the ``state_dict``; the floating-point buffers are among them, but no gradient reaches these.
    Points are taken in the units in which they come; pretrained weights expect those of their training, often ImageNet's mean
    and standard deviation. Images of one channel are repeated to as many as the first convolution takes.

    Without ``weights`` the module's own constructor draws them, every number from the generator; batch normalisation is the
    identity then. With ``weights`` nothing is random, and all networks of a context are the same.

    Logits are the module's own output, where that has as many columns as there are classes. Otherwise there are none, and
    parameters have ``embedding.`` before their names. The module runs to its end in any case, and is not compiled.

    Args:
        module: a name of torchvision, such as ``resnet18``, or one given to :func:`register_module`.
        weights: path of a safetensors file with the module's ``state_dict``; None for random weights.
        layer: the layer that gives the features, by its name within the module; one that runs several times counts with its
            last output.
        layers: those that give ``layer1``, ``layer2``, ...; empty for the outer ones as they run, sequences opened, up to
            ``layer``.
        outputs: of the module's classifier; None for 1000 with ``weights``, and for the number of classes without.
        side: images are first resized to ``side × side``, bilinearly; None to take them as they are.

    Raises:
        InvalidInput: if the module or a layer is not known, or the weights do not fit.

    Example:
        >>> import torch
        >>> from discrepancy import networks
        >>> network = networks.Backbone(module="squeezenet1_1", layer="features.2")
        >>> parameters = network.initial(torch.Generator().manual_seed(0), (3, 32, 32), 10)
        >>> outputs = network(parameters, torch.zeros((2, 3, 32, 32)), ("features", "logits"))
        >>> {name: tuple(value.shape) for name, value in outputs.items()}
        {'features': (2, 3136), 'logits': (2, 10)}
    """

    paths: ClassVar[tuple[str, ...]] = ("weights",)

    module: str = "resnet18"
    weights: str | None = None
    layer: str = "avgpool"
    layers: tuple[str, ...] = ()
    outputs: int | None = None
    side: int | None = None

    def __post_init__(self) -> None:
        check_known(self.module)
        if self.weights is not None:
            user_path("weights", self.weights)
        for name, value in (("outputs", self.outputs), ("side", self.side)):
            if value is not None and value < 1:
                raise InvalidInput(f"'{name}' must be >= 1 or None, got {value}")

    @property
    def packaged(self) -> bool:
        return not is_registered(self.module)

    def initial(
        self, generator: torch.Generator, shape: tuple[int, ...], classes: int, *, affine: bool = True
    ) -> dict[str, Tensor]:
        outputs = self.outputs or (IMAGENET if self.weights else classes)
        prefix = "" if _columns(self, tuple(shape), outputs) == classes else EMBEDDING
        frame = skeleton(self.module, self.outputs or IMAGENET)  # that of a call, which could not make it within vmap
        if self.weights is None:
            made = drawn(self.module, outputs, generator)
            values = {name: value.detach().float().clone() for name, value in made.named_parameters()}
            values |= {name: value.clone() for name, value in _buffers(made).items()}
        else:
            values = _buffers(frame) | read(self.weights, self.module, frame)
        return {prefix + name: value for name, value in values.items()}

    def __call__(
        self,
        parameters: NetworkParameters,
        points: Float[Tensor, "n *shape"],
        take: Collection[str] = ("logits",),
        statistics: Statistics | None = None,
    ) -> dict[str, Tensor]:
        for name in take:
            check_choice("take", name, OUTPUTS)
        if "logits" in take and any(name.startswith(EMBEDDING) for name in parameters):
            raise InvalidInput(
                f"'{self.module}' has no logits: its own classifier does not have as many outputs as there are classes; take "
                "'features', or give weights for these classes and their number as 'outputs'"
            )
        module = skeleton(self.module, self.outputs or IMAGENET)
        weights = {name.removeprefix(EMBEDDING): value for name, value in parameters.items()}
        logits, found = self._run(module, weights, points, bool({"layers", "activations"} & set(take)))
        outputs = {"features": found[self.layer].flatten(1)} if "features" in take else {}
        if {"layers", "activations"} & set(take):
            names = list(found)
            for number, name in enumerate(self.layers or names[: names.index(self.layer) + 1], 1):
                outputs |= layer_outputs(number, found[name], take)
        return outputs | ({"logits": logits} if "logits" in take else {})

    def _run(
        self, module: nn.Module, weights: NetworkParameters, points: Tensor, layers: bool
    ) -> tuple[Any, dict[str, Tensor]]:
        """The module's own output, and that of the layers that are looked at, in the order in which they first ran."""
        asked = (self.layer, *(self.layers if layers else ()))
        watched = {*asked, *(outer_names(module) if layers and not self.layers else ())}
        named = _named(self.module, module, asked)
        constants = {name: value.to(points.device) for name, value in module.named_buffers() if _is_constant(value)}
        fixed = {name: weights[name].detach() for name in _buffers(module)}
        found: dict[str, Tensor] = {}
        handles = [named[name].register_forward_hook(_keeps(name, found)) for name in watched]
        try:
            logits = torch.func.functional_call(
                module, {**weights, **fixed, **constants}, (self._input(module, points),)
            )
        finally:
            for handle in handles:
                handle.remove()
        for name in asked:
            if name not in found:
                raise InvalidInput(
                    f"'{name}' of '{self.module}' gives no tensor in evaluation mode; choose another layer, such as "
                    f"{', '.join(outer_names(module))}"
                )
        return logits, found

    def _input(self, module: nn.Module, points: Tensor) -> Tensor:
        first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
        if first is not None and points.ndim == 4 and points.shape[1] != first.in_channels:
            if points.shape[1] != 1:
                raise InvalidInput(
                    f"'{self.module}' takes images of {first.in_channels} channels, got {points.shape[1]}; only single "
                    "channels are repeated"
                )
            points = points.expand(-1, first.in_channels, -1, -1)
        if self.side is not None:
            points = functional.interpolate(points, (self.side, self.side), mode="bilinear")
        return points


@lru_cache(maxsize=64)
def _columns(network: Backbone, shape: tuple[int, ...], outputs: int) -> int | None:
    """The columns of the module's own output for examples of a shape; None if it is not a matrix. Tried on the meta device."""
    frame = skeleton(network.module, outputs)
    weights = {**dict(frame.named_parameters()), **_buffers(frame)}
    meta = {name: value.to("meta") for name, value in weights.items()}
    try:
        logits, _ = network._run(frame, meta, torch.empty(2, *shape, device="meta"), True)
    except InvalidInput:
        raise
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(
            f"'{network.module}' does not take examples of shape {shape}: {reason}; give 'side', for instance 224, or choose "
            "another 'module'"
        ) from None
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None


def _named(name: str, module: nn.Module, layers: Collection[str]) -> dict[str, nn.Module]:
    """The parts of a module by name, all ``layers`` among them."""
    named = {key: part for key, part in module.named_modules() if key}
    for layer in layers:
        if layer not in named:
            raise InvalidInput(
                f"'layer' must be the name of a part of '{name}', got '{layer}'{close_to(layer, list(named))}; it has "
                f"{', '.join(outer_names(module))}, and their parts"
            )
    return named


def _keeps(name: str, found: dict[str, Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found[name] = output.clone()  # what follows may write into it

    return hook


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """Those of floating point, which are parameters here, though fixed ones."""
    return {name: value.float() for name, value in module.named_buffers() if value.is_floating_point()}


def _is_constant(buffer: Tensor) -> bool:
    """Whether it is a table of the module, such as indices; the counters of batches are not looked at."""
    return not buffer.is_floating_point() and buffer.ndim > 0
