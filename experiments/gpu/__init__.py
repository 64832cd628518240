"""``make gpu``: what only a machine with a GPU can say, as one JSON."""
