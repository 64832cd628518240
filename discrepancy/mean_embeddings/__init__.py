"""Distances between mean embeddings in a Hilbert space: MMD, its joint form, energy distance, characteristic functions."""
