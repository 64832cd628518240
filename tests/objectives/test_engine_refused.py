"""What the engine refuses."""

from typing import Any

import pytest
import torch
from engines import BATCH
from small import NETWORK, images, problem, table

from discrepancy import MMD
from discrepancy.embeddings import Features, Layers
from discrepancy.errors import InvalidInput
from objectives.contexts import Context, Fresh, Pool
from objectives.terms.match import Match
from objectives.terms.objective import Summand
from objectives.terms.penalties import CrossEntropy
from objectives.training.augmentation import Siamese


@pytest.mark.parametrize(
    ("data", "objective", "context", "message"),
    [
        (images, Match(MMD(), via=Features()), Fresh(), "takes 'features' of the context's network, but it has none"),
        (
            images,
            Match(MMD(), via=Features()) + CrossEntropy(),
            Fresh(),
            "takes 'features' and 'logits' of the context's network, but it has none",
        ),
        (
            images,
            Match(MMD(), via=Features()),
            Pool(network=BATCH),
            "'convnet' with batch normalisation is not pointwise, so 'all' real data",
        ),
        (
            table,
            Match(MMD()),
            Fresh(augment=Siamese()),
            r"'augment' needs images \(C, H, W\); these examples have shape \(5,\)",
        ),
        (
            table,
            Match(MMD(), via=Features()),
            Fresh(network=NETWORK),
            r"a convnet needs examples of shape .*use an mlp",
        ),
        (images, Match(MMD(), by="group"), Pool(), "term 'mmd' is by: group, but these data have no groups"),
        (
            images,
            Match(MMD(), via=Layers(), layer_weights=(("layer3", 1.0),)),
            Fresh(network=NETWORK),
            r"'layer_weights' of term 'mmd' name \['layer3'\], but the blocks are: layer1, layer2",
        ),
        (
            images,
            Match(MMD(), layer_weights=(("layer1", 1.0),)),
            Fresh(),
            r"name \['layer1'\], but the blocks are: one without a name",
        ),
    ],
    ids=["network", "networks", "batch-norm", "augment", "shape", "groups", "layers", "no-layers"],
)
def test_what_does_not_fit(data: Any, objective: Summand, context: Context, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        problem(data(), objective, context=context).engine(1)


@pytest.mark.parametrize(("batch", "works"), [(2, False), (12, False), (13, True), ("all", True)])
def test_groups_must_be_in_every_batch(batch: Any, works: bool) -> None:
    groups = torch.zeros(31).long()
    groups[images().train.members[2][4]] = 1  # one example, in the class of 13
    some = problem(images(groups=groups), Match(MMD(), by="group"), context=Pool(batch=batch))
    if works:
        some.engine(1)
        return
    with pytest.raises(InvalidInput, match=rf"group 1 can be missing from the real batch \({batch} a class\)"):
        some.engine(1)
