"""Sweeps: one configuration under many settings, and the best of them.

grid         which settings
plan         a sweep: settings, seeds, rounds, the measure that decides
trial        one run of it
apart        runs in processes of their own
results      what was measured, in a file that a repeated command goes on with
fingerprint  what results were made with: one's own files, and versions
lock         one process at a time in a directory
sweep        all runs, or successive halving
outcome      what a setting came to
report       table and figure
best         the best setting, as a configuration
"""
