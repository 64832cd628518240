"""Whether a set has seen the examples on which it is to be evaluated, and whether data are those that it was made from.

An artefact records the fingerprint and a sketch of what it was made from. A set that carries neither is known by its points
alone.
"""

from discrepancy.errors import InvalidInput
from objectives.data.fingerprint import Sketch, row_hashes
from objectives.data.labelled import LabelledData
from objectives.synthetic.artefact import SyntheticSet

__all__ = ["check_same", "check_unseen", "note_of_others"]

FEW = 0.01
"""The share of the examples that a set was made from up to which those that are test examples are taken for chance."""


def check_unseen(synthetic: SyntheticSet, data: LabelledData, validation: bool = False) -> None:
    """Refuse a set that was made from test examples, or has some; those that are training examples too do not count.

    Args:
        validation: whether the test examples are a part of the training data that was held out.

    Raises:
        InvalidInput: saying how many they are.
    """
    test, recorded = data.test, synthetic.record.get("fingerprint")
    if test is None:
        return
    part = "validation" if validation else "test"
    instead = (
        "condense with 'condense run ... --validation', and evaluate that set without '--validation'"
        if validation
        else "condense the training part alone"
    )
    if recorded is not None and recorded == test.fingerprint():
        raise InvalidInput(f"the set was made from the {part} examples of '{data.name}'; {instead}")
    held = test.row_hashes
    own, sketch = row_hashes(synthetic.points), _sketch(synthetic)
    if not any(row in held for row in own) and (sketch is None or sketch.share_in(held) <= FEW):
        return
    unseen = held - data.train.row_hashes
    copies = sum(row in unseen for row in own)
    if copies:
        raise InvalidInput(
            f"{copies} of the {len(synthetic)} examples of the set are {part} examples of '{data.name}'; {instead}"
        )
    share = 0.0 if sketch is None else sketch.share_in(unseen)
    if share > FEW:
        raise InvalidInput(
            f"about {share:.0%} of the examples that the set was made from are {part} examples of '{data.name}'; {instead}"
        )


def check_same(
    synthetic: SyntheticSet, data: LabelledData, artefact: str, instead: str = "name data with --data"
) -> None:
    """Refuse data that are not what a set was made from, though they have the same name.

    Args:
        instead: what else can be done.

    Raises:
        InvalidInput: if their fingerprint is another one.
    """
    recorded = synthetic.record.get("fingerprint")
    if recorded is not None and recorded != data.train.fingerprint():
        raise InvalidInput(
            f"'{data.name}' is not what '{artefact}' was made from: its training examples have changed, or others have the "
            f"name; restore them, or {instead}"
        )


def note_of_others(synthetic: SyntheticSet, data: LabelledData) -> str | None:
    """What is to be said where the data are others than those that a set was made from, or not a whole of which these are a
    part."""
    recorded, sketch = synthetic.record.get("fingerprint"), _sketch(synthetic)
    if recorded is None or recorded == data.train.fingerprint():
        return None
    share = 0.0 if sketch is None else sketch.share_in(data.train.row_hashes)
    if share == 1.0:
        return None
    some = f"; about {share:.0%} of them are training examples here" if share else ""
    return f"the set was made from other data than the training examples of '{data.name}'{some}"


def _sketch(synthetic: SyntheticSet) -> Sketch | None:
    text = synthetic.record.get("sketch")
    return None if text is None else Sketch.from_text(text)
