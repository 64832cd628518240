"""Where the commands keep attacked real examples between runs."""

import os
from collections.abc import Callable

from discrepancy.errors import InvalidInput
from discrepancy.parts import user_path
from experiments.experiment import Experiment
from objectives.data.cache import Cache

__all__ = ["CACHE_VARIABLE", "cache_of"]

CACHE_VARIABLE = "DISCREPANCY_CACHE"


def cache_of(experiment: Experiment, say: Callable[[str], None] | None = None) -> Cache | None:
    """The folder that the environment variable DISCREPANCY_CACHE names, else that of the experiment's source; None if the
    variable is ``off``, where the user has no home folder, and where no real side is changed.

    Args:
        say: called with a sentence when something is read from there, or written.

    Raises:
        InvalidInput: if the variable names what can be no path.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named == "off" or not any(experiment.objective.real_sides):
        return None
    if named:
        return Cache(user_path(CACHE_VARIABLE, named), say=say)
    try:
        return Cache(experiment.data.cache, say=say)
    except InvalidInput as error:
        if say is not None:
            say(f"nothing is kept for later runs ({error}); or name a folder by {CACHE_VARIABLE}")
        return None
