"""What a person runs: the command ``condense``, data sources, evaluation, reports and benchmarks."""
