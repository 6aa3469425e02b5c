"""Benchmarks: ours and a rival side by side in one run. Ratios can be compared between machines, seconds can't."""
