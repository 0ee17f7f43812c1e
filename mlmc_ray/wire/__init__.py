"""The wire: messages as bytes, and back."""

from mlmc_ray.wire.frames import WIRE_VERSION, decode, encode

__all__ = ["WIRE_VERSION", "decode", "encode"]
