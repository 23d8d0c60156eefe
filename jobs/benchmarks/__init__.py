"""Public benchmarks: one file each, found by its name."""
