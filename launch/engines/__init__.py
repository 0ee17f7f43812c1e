"""Engines run rounds: in one process, or on Ray."""
