"""Servers and workers that note how long their parts take, for several benchmarks."""
