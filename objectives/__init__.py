"""What is minimised, over what, and how: objectives, contexts, synthetic sets and solvers.

Two rooms keep their names to themselves, since some of them are torch's or Python's too: ``reductions`` (``Sum``, ``Mean``,
``Max``, ``Proportional``, ``CVaR``) and ``selection`` (``Random`` beside the other selections).
"""

from typing import TYPE_CHECKING

from discrepancy.deferred import deferred

if TYPE_CHECKING:
    from objectives.public import *  # noqa: F403
else:
    __getattr__, __dir__ = deferred(__name__)
