"""Discrepancies of what is learned from two data sets: learners, their risks and parameters, and loss gradients."""
