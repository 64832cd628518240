"""Contexts: one draw of everything random that the two sides share (the network's weights, the augmentation), and of the
real examples that a summary is made from.

A context says, for each step, *which* draw is current, by a key; the key seeds the streams, so a draw can be made again at
any time and is never stored. Draws that come back (a pool) have summaries worth keeping.
"""

from objectives.contexts.base import Context, Draw, TrainingSchedule
from objectives.contexts.drawn import Fresh, Pool
from objectives.contexts.interpolated import Interpolated
from objectives.contexts.queue import Queue
from objectives.contexts.renewed import Renewed
from objectives.contexts.trained import Trained
from objectives.contexts.watch import Watch

__all__ = [
    "Context",
    "Draw",
    "Fresh",
    "Interpolated",
    "TrainingSchedule",
    "Pool",
    "Queue",
    "Renewed",
    "Trained",
    "Watch",
]
