"""Checkpoints: what a run remembers, written down, and runs that go on from there."""
