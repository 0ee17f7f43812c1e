"""Configurations: what a run is made from, read from YAML and checked."""
