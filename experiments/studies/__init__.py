"""Experiments about discrepancies themselves, each with a packaged configuration that runs at the size of a laptop."""
