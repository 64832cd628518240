"""Discrepancies of moments and quantiles, and of the Gaussians with these moments."""
