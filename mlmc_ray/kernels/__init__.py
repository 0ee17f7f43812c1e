"""The hot loops: selecting, sampling and packing."""
