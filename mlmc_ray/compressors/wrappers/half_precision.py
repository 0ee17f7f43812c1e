"""Half precision: two bytes an entry."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from mlmc_ray.compressors.base import PaperCost, check_finite
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.payloads import DensePayload, Payload, ZeroPayload

_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class HalfPrecision:
    """Every entry, rounded to the nearest number of two bytes: deterministic, biased.

    Attributes:
        format: "bf16" (8 bits of exponent, as float32 has, and a relative error of up to 2^-8) or
            "fp16" (a relative error of up to 2^-11 from 2^-14 to 65,504; what is smaller loses
            digits, and below 2^-25 becomes 0).
    """

    format: Literal["fp16", "bf16"] = "bf16"

    def __post_init__(self) -> None:
        if self.format not in _HALVES:
            raise ValueError(f"format is {self.format!r}: give one of {sorted(_HALVES)}")

    @property
    def unbiased(self) -> bool:
        """False."""
        return False

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        """Return the rounded entries; the generator is not used.

        Raises:
            ValueError: an entry is too large for the format.
        """
        check_finite(vector)
        vector = vector.detach()
        if not vector.any():
            return ZeroPayload(vector.numel())
        dtype = _HALVES[self.format]
        values = vector.to(dtype)
        if not all_finite(values):
            worst = int(vector.abs().argmax())
            raise ValueError(
                f"entry {worst} is {vector[worst].item()}, and the largest {self.format} is "
                f"{torch.finfo(dtype).max}: scale the vector down or send float32"
            )
        return DensePayload(values)

    def omega(self, dim: int) -> None:
        """None: biased."""
        return None

    def alpha(self, dim: int) -> float | None:
        """1 - 2^-16 for bf16 and entries from 2^-126; none for fp16, where small entries vanish."""
        return 1 - 2.0**-16 if self.format == "bf16" else None

    def paper_cost(self, dim: int) -> PaperCost:
        """Two bytes an entry."""
        return PaperCost("16 d", 16 * dim)
