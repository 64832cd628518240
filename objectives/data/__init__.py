"""Data sets as they come, their units and labels, and which examples a step sees."""
