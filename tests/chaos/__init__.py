"""Runs in which processes are killed at random, and what must come of them: nothing different.

``python -m tests.chaos`` runs as many as it is asked for.
"""
