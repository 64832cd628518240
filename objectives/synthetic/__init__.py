"""The synthetic side: how examples are stored and decoded, where they start, and the file that holds the result."""
