"""What a terminal and a figure show of runs."""
