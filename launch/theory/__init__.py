"""Step sizes that theory gives."""
