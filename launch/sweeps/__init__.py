"""Sweeps: one configuration under many settings, and the best of them.

grid         which settings
plan         a sweep: settings, seeds, rounds, the measure that decides
trial        one run of it
results      what was measured, in a file that a repeated command goes on with
sweep        all runs, or successive halving
outcome      what a setting came to
report       table and figure
best         the best setting, as a configuration
"""
