"""The gradient of a minibatch's loss in the chunks that suit a network, compiled where that pays."""

from objectives.engine.compile import Compiled
from objectives.engine.extractor import Extractor
from objectives.training.batch_gradient import BatchGradient, Criterion

__all__ = ["batch_gradient"]


def batch_gradient(
    extractor: Extractor, criterion: Criterion, *, compiled: bool = False, statistics: bool = False
) -> BatchGradient:
    """That of the extractor's network. A backward pass holds twice what a forward pass does."""
    assert extractor.network is not None
    chunk = max(1, extractor.chunk // 2)
    return BatchGradient(extractor.network, criterion, chunk, Compiled if compiled else None, statistics=statistics)
