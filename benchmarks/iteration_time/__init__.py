"""The parts of an iteration of training, by method."""
