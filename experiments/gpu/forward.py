"""Images a second through the network of DM (ConvNet-3, width 128, 32 x 32 colour), in the chunks of the feature extractor.

In float32, in float32 with convolutions in TF32, and in bfloat16; with contiguous and with channels-last memory; eager and
compiled. The error of a row is that of its features, relative to eager float32.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from discrepancy.networks import ConvNet
from discrepancy.networks.base import NetworkParameters
from experiments.gpu.budget import Budget, Setting, spread, wait_for
from objectives.engine.compile import Compiled
from objectives.engine.memory import chunk_examples
from objectives.rng import rng

__all__ = ["rows"]

PRECISIONS = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "bfloat16": (torch.bfloat16, True)}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
ROUNDS = 50


def rows(setting: Setting, budget: Budget) -> Iterator[dict[str, Any]]:
    """A row for each precision, memory layout, and eager or compiled code."""
    network, shape, generator = ConvNet(width=128, depth=3), (3, 32, 32), rng(0, "forward")
    n = chunk_examples(network, shape, 10, setting.device)
    if setting.tiny:
        n, network = 4, ConvNet(width=4, depth=2)
    points = torch.randn(n, *shape, generator=generator)
    initial = network.initial(generator, shape, 10, affine=False)

    def features(parameters: NetworkParameters, images: Tensor) -> Tensor:
        return network(parameters, images, ("features",))["features"]

    reference: Tensor | None = None
    for compiled in (False,) if setting.tiny else (False, True):
        for precision, (dtype, tf32) in PRECISIONS.items():
            for layout, memory in LAYOUTS.items():
                what = f"{precision}, {layout}, {'compiled' if compiled else 'eager'}"
                if budget.spent:
                    yield {"what": what, "left_out": "no time left"}
                    continue
                images = points.to(setting.device, dtype).contiguous(memory_format=memory)
                parameters = {name: value.to(setting.device, dtype) for name, value in initial.items()}
                with convolutions(setting.device, tf32):
                    found, first, seconds = timed(
                        Compiled(features) if compiled else features, parameters, images, setting, budget
                    )
                reference = found if reference is None else reference
                yield {
                    "what": what,
                    "images": n,
                    "images_per_second": spread([n / second for second in seconds]),
                    "first_call_seconds": first,
                    "relative_error": float((found - reference).norm() / reference.norm()),
                }


def convolutions(device: torch.device, tf32: bool) -> contextlib.AbstractContextManager[Any]:
    """With or without TF32, which torch uses by default."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32)


@torch.no_grad()
def timed(
    function: Any, parameters: NetworkParameters, images: Tensor, setting: Setting, budget: Budget
) -> tuple[Tensor, float, list[float]]:
    """The features, the seconds of the first call, and those of later ones."""
    seconds: list[float] = []
    found = images
    for _ in range(2 if setting.tiny else ROUNDS + 1):
        start = time.perf_counter()
        found = function(parameters, images)
        wait_for(setting.device)
        seconds.append(time.perf_counter() - start)
        if budget.spent and len(seconds) > 1:
            break
    return found.float().flatten(1), seconds[0], seconds[1:]
