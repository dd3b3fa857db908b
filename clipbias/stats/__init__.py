"""Statistics on plain arrays: credit for ties, intervals, tests, contrasts, ranks. NumPy and SciPy only."""
