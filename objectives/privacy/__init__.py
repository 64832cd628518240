"""Privacy: what leaves the real data is a noisy sum, made once and charged to a ledger; all else is computed from it."""
