"""The gradient of a minibatch's loss in the chunks that suit a network, compiled where that pays."""

from objectives.attacks import UnitSpace
from objectives.data.spec import Described
from objectives.engine.compile import Compiled
from objectives.engine.extractor import Extractor
from objectives.training.batch_gradient import BatchGradient, Criterion, PlainGradient
from objectives.training.trainer import TrainingPlan

__all__ = ["batch_gradient"]


def batch_gradient(
    extractor: Extractor,
    plan: TrainingPlan,
    data: Described,
    criterion: Criterion,
    *,
    compiled: bool = False,
    statistics: bool = False,
) -> BatchGradient:
    """That by which a plan trains the extractor's network. A backward pass holds twice what a forward pass does."""
    assert extractor.network is not None
    chunk, runtime = max(1, extractor.chunk // 2), extractor.runtime
    plain = PlainGradient(extractor.network, criterion, chunk, Compiled if compiled else None, statistics=statistics)
    return plan.gradient(plain, UnitSpace.of(data, runtime.device, runtime.dtype))
