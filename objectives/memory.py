"""How much memory an embedding takes, estimated on the meta device, and how much there is."""

import psutil
import torch
from torch import Tensor

from discrepancy.networks.base import Network

__all__ = ["available_bytes", "chunk_examples", "graph_bytes"]

CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 1 << 30}
"""Activations of one chunk: on a CPU they should stay in its cache, on a GPU they should fill it."""


def available_bytes(device: torch.device) -> int:
    """Memory that could be allocated now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def graph_bytes(network: Network, shape: tuple[int, ...], classes: int, take: tuple[str, ...]) -> int:
    """Bytes that autograd keeps for the backward pass of one example."""
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # its Python object may be a new one at each call
        kept[storage._cdata] = storage.nbytes()
        return tensor

    initial = network.initial(torch.Generator(), shape, classes, affine=False)
    parameters = {name: value.to("meta") for name, value in initial.items()}
    points = torch.empty(2, *shape, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = network(parameters, points, take)  # holds the graph, and so every storage that was counted
    weights = {value.untyped_storage()._cdata for value in parameters.values()}
    total = sum(size for storage, size in kept.items() if storage not in weights) // 2
    del outputs
    return total


def chunk_examples(network: Network, shape: tuple[int, ...], classes: int, device: torch.device) -> int:
    """Examples that pass through the network at once: a power of two that keeps the largest activation near the budget."""
    layers = network.shapes(shape, classes, ("layers",)).values()
    largest = max(4 * 4 * torch.Size(layer).numel() for layer in layers)
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"])
    if device.type == "cuda":
        budget = min(budget, available_bytes(device) // 16)
    return 1 << max(4, min(12, (budget // max(largest, 1)).bit_length() - 1))
