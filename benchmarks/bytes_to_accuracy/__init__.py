"""Test accuracy against the bytes that workers send: compressors at their own best step sizes.

    python -m benchmarks.bytes_to_accuracy run --out DIR
    python -m benchmarks.bytes_to_accuracy report --out DIR

``plan`` says which methods are trained on what. The first command goes on where it was interrupted.
"""
