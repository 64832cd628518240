"""Optimal transport: how far mass has to be moved to turn one measure into another.

    W_p^p(μ, ν) = min over plans π with marginals μ and ν of E_π ‖x - y‖^p
"""

__all__: list[str] = []
