"""How the parameters get to the workers, and what that costs."""

from mlmc_ray.downlinks.base import Downlink, Receiver, Sender
from mlmc_ray.downlinks.compressed import CompressedDownlink
from mlmc_ray.downlinks.copies import FULL, FullDownlink, HalfDownlink
from mlmc_ray.downlinks.delta import DeltaDownlink
from mlmc_ray.downlinks.relay import RelayDownlink

__all__ = [
    "FULL",
    "CompressedDownlink",
    "DeltaDownlink",
    "Downlink",
    "FullDownlink",
    "HalfDownlink",
    "Receiver",
    "RelayDownlink",
    "Sender",
]
