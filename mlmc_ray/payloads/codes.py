"""Quantised vectors: a small whole number per entry, a codebook, and scales."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.kernels.codes import add_looked_up, add_scaled
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.payloads.base import Payload, check_shape


class Codebook(Protocol):
    """What a code stands for, before the scale."""

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the value of every code."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Evenly spaced: code q stands for q + offset. The offset is rounded to float32."""

    offset: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", float(np.float32(self.offset)))

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """q + offset."""
        return np.asarray(codes + self.offset, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Powers:
    """Powers of a base: code 0 is 0, code q stands for sgn(q) base^(|q| - 1)."""

    base: float = 2.0

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """sgn(q) base^(|q| - 1)."""
        powers = np.power(self.base, np.abs(codes) - 1.0)
        return np.asarray(np.sign(codes) * powers, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Table:
    """Given values: code q stands for entries[q]. They are rounded to float32."""

    entries: tuple[float, ...]

    def __post_init__(self) -> None:
        rounded = np.asarray(self.entries, dtype=np.float32).tolist()
        object.__setattr__(self, "entries", tuple(rounded))

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """entries[q]."""
        return np.asarray(self.entries, dtype=np.float64)[codes]


@dataclass(frozen=True, slots=True, eq=False)
class CodesPayload(Payload):
    """Entry j is ``scales[j // bucket_size]`` times what ``codebook`` says of ``codes[j]``.

    ``codes`` has an integer dtype and shape (dim,). ``scales`` is float32 with an entry for every
    ``bucket_size`` codes, the last bucket may be shorter; by default there is one bucket.
    """

    codes: Tensor
    scales: Tensor
    bucket_size: int = 0
    codebook: Codebook = Grid()

    def __post_init__(self) -> None:
        if not self.bucket_size:
            object.__setattr__(self, "bucket_size", max(1, self.codes.numel()))
        expected = -(-self.codes.numel() // self.bucket_size)
        if self.scales.shape != (expected,):
            raise ValueError(
                f"scales has shape {tuple(self.scales.shape)}: {self.codes.numel()} codes in "
                f"buckets of {self.bucket_size} need {expected}"
            )

    @classmethod
    def on_grid(cls, codes: Tensor, step: float) -> "CodesPayload":
        """Return the payload whose entry j is ``step * codes[j]``; the step becomes float32."""
        return cls(codes, torch.tensor([step], dtype=torch.float64).to(torch.float32))

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of entries."""
        return self.codes.numel()

    def range(self) -> tuple[int, int]:
        """Return the smallest and the largest code."""
        low, high = torch.aminmax(self.codes)
        return int(low), int(high)

    def add_to(self, accumulator: Tensor, weight: float = 1.0) -> None:
        """Add in one pass over the vector; each sum is rounded once, from float64."""
        check_shape(self, accumulator)
        scales = self.scales.to(torch.float64) * weight
        readable = on_cpu(accumulator, torch.float32, torch.float64)
        if readable and accumulator.is_contiguous():
            self._add_on_cpu(accumulator.numpy(), scales.cpu().numpy())
            return
        spread = scales.to(accumulator.device).repeat_interleave(self.bucket_size)[: self.dim]
        accumulator.add_(self._values(accumulator.device).mul_(spread))  # in float64, then rounded

    def _values(self, device: torch.device) -> Tensor:
        """Return what the codes stand for before the scales, float64."""
        codes = self.codes.to(device)
        if isinstance(self.codebook, Grid):
            return codes.to(torch.float64) + self.codebook.offset
        low, high = self.range()
        table = torch.from_numpy(self.codebook.values(np.arange(low, high + 1)))
        return table.to(device)[codes.long() - low]

    def _add_on_cpu(
        self, accumulator: npt.NDArray[np.float32], scales: npt.NDArray[np.float64]
    ) -> None:
        codes = self.codes.cpu().contiguous().numpy()
        low, high = self.range()
        if isinstance(self.codebook, Grid):
            add_scaled(accumulator, codes, scales, self.bucket_size, self.codebook.offset)
        else:
            table = self.codebook.values(np.arange(low, high + 1))
            add_looked_up(accumulator, codes, scales, self.bucket_size, table, low)

    def scaled(self, factor: float) -> "CodesPayload":
        """Scale the scales, each rounded once."""
        scales = (self.scales.to(torch.float64) * factor).to(torch.float32)
        return CodesPayload(self.codes, scales, self.bucket_size, self.codebook)
