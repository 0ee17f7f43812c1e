"""Scaling: one configuration with 1, 2, 4, ... workers, and what more workers buy.

plan      a scaling run: numbers of workers, how they share the batch, the target
variance  of the average of the workers' messages: by theory, and as drawn
point     one number of workers: rounds, bytes, seconds and memory to the target
scale     all numbers of workers
report    table and figure
"""
