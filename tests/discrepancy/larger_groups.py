"""The contract for what needs several distinct points in each group: its samples with groups of at least three."""

from contract import DiscrepancyContract

__all__ = ["LargerGroups"]


class LargerGroups(DiscrepancyContract):
    groups = (0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1), (1, 0, 1, 1, 1, 0, 1, 0)
