"""Measuring compressors: size, error and speed."""
