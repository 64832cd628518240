"""Numerical building blocks: sums over pairs, blocks of bounded memory, derivatives at zero, linear systems."""
