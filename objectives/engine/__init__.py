"""Evaluation of an objective: networks, features of both sides, summaries of the real side, values and gradients."""
