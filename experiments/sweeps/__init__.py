"""Sweeps: methods beside each other on the same data, at the same sizes, under one protocol, from one file by one command."""
