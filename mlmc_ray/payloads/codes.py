"""Quantised vectors: a small whole number per entry, a codebook, and scales."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlmc_ray.errors import NonFiniteError
from mlmc_ray.kernels.codes import add_looked_up, add_scaled
from mlmc_ray.kernels.device import on_cpu
from mlmc_ray.kernels.powers import powers
from mlmc_ray.payloads.base import Payload, check_shape, too_large

MAX_BASE = 1024.0
"""The largest base of ``Powers``."""
MAX_POWERS = 1 << 17
"""How many powers there are at most, so that a table of them is small."""
LARGEST_FLOAT = float(np.finfo(np.float32).max)


class Codebook(Protocol):
    """What a code stands for, before the scale."""

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the value of every code."""

    def peak(self, low: int, high: int) -> float:
        """Return the largest magnitude that a code from ``low`` to ``high`` stands for.

        Raises:
            ValueError: the codebook does not have these codes.
        """


@dataclass(frozen=True, slots=True)
class Grid:
    """Evenly spaced: code q stands for q + offset. The offset is rounded to float32."""

    offset: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", float(np.float32(self.offset)))

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """q + offset."""
        return np.asarray(codes + self.offset, dtype=np.float64)

    def peak(self, low: int, high: int) -> float:
        """That of one of the two ends."""
        return max(abs(low + self.offset), abs(high + self.offset))


@dataclass(frozen=True, slots=True)
class Powers:
    """Powers of a base: code 0 is 0, code q stands for sgn(q) base^(|q| - 1).

    The base is above 1 and at most ``MAX_BASE``, |q| at most ``MAX_POWERS``; the powers are those
    of ``kernels.powers``.
    """

    base: float = 2.0

    def __post_init__(self) -> None:
        if not 1 < self.base <= MAX_BASE:
            raise ValueError(f"base is {self.base!r}: give a number above 1, at most {MAX_BASE:g}")
        object.__setattr__(self, "base", float(self.base))

    def values(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """sgn(q) base^(|q| - 1)."""
        magnitudes = np.abs(codes)
        points = np.append(0.0, powers(self.base, int(magnitudes.max(initial=0))))
        return np.asarray(np.sign(codes) * points[magnitudes], dtype=np.float64)

    def peak(self, low: int, high: int) -> float:
        """That of one of the two ends."""
        highest = max(abs(low), abs(high))
        if highest > MAX_POWERS:
            raise ValueError(
                f"code {highest} stands for a power of {self.base}: there are at most {MAX_POWERS} "
                "powers; use a larger base"
            )
        return float(self.values(np.array([highest]))[0])


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

    def peak(self, low: int, high: int) -> float:
        """The largest of the entries in question."""
        if not 0 <= low <= high < len(self.entries):
            raise ValueError(f"{len(self.entries)} entries for codes from {low} to {high}")
        return max(map(abs, self.entries[low : high + 1]))


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
        """Return the payload whose entry j is ``step * codes[j]``; the step becomes float32.

        Raises:
            NonFiniteError: an entry is larger than float32 holds.
        """
        payload = cls(codes, torch.tensor([step], dtype=torch.float64).to(torch.float32))
        if codes.numel() and not payload.reach() <= LARGEST_FLOAT:
            largest = payload.codebook.peak(*payload.range())
            raise NonFiniteError(too_large(largest, step, torch.float32))
        return payload

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of entries."""
        return self.codes.numel()

    def range(self) -> tuple[int, int]:
        """Return the smallest and the largest code."""
        low, high = torch.aminmax(self.codes)
        return int(low), int(high)

    def reach(self) -> float:
        """Return the largest magnitude that a scale and a code between the extremes can give."""
        return float(self.scales.abs().max()) * self.codebook.peak(*self.range())

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
        """Scale the scales, each rounded once.

        Raises:
            NonFiniteError: an entry may become larger than float32 holds.
        """
        scales = (self.scales.to(torch.float64) * factor).to(torch.float32)
        scaled = CodesPayload(self.codes, scales, self.bucket_size, self.codebook)
        if self.dim and not scaled.reach() <= LARGEST_FLOAT:
            raise NonFiniteError(too_large(self.reach(), factor, torch.float32))
        return scaled
