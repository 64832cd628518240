"""Hostile and damaged input for every command: no traceback, no hang, no raw control characters, one sentence, status 1 or 2.

python -m fuzzing --cases 10000              # in tests/; every surface, seeds 0, 1, ...
python -m fuzzing --only artefacts --first 17 --cases 1 --verbose
"""
