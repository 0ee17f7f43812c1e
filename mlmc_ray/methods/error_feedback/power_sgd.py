"""PowerSGD: all workers project their gradients on the same few directions, which they improve.

References:
    Vogels, Karimireddy and Jaggi, 2019, arXiv:1905.13727, algorithms 1 and 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Context, PaperCost, check_finite
from mlmc_ray.compressors.low_rank import normal_draws, rank_of, sides_of
from mlmc_ray.methods.base import Facts, Half, Method, Oracle, Progress
from mlmc_ray.methods.reports import add_average, payload_of
from mlmc_ray.payloads import DensePayload, Message


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerSGDMethod(Method):
    """PowerSGD in the paper's form: linear, with a warm start and error feedback.

    For every matrix A_i of worker i, the layer's gradient plus the error e_i of the last round, a
    round has two exchanges:

        send P_i = A_i Q;       P <- orth(average of the P_i)
        send Q_i = A_i^T P;     Q <- average of the Q_i;      e_i <- A_i - P Q^T

    The estimate P Q^T is P P^T times the average of the A_i, and the next round starts from this Q.
    Layers of fewer than two dimensions, and those for which P and Q hold no fewer numbers, are sent
    whole, with P. Layers of more are matrices of their first dimension by the rest.

    Args:
        rank: columns of P and Q, at least 1; at most the smaller side of the matrix is used.

    References:
        Vogels, Karimireddy and Jaggi, 2019, arXiv:1905.13727, algorithms 1 and 2.
    """

    rank: int = 2

    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="rank (n + m) of every n x m matrix, and other layers whole",
        downlink="d + rank (n + m)",
        news=("parameters", "left", "right"),
        reports=("left", "whole", "right"),
        worker_memory="d + rank (n + m)",
        server_memory="rank (n + m)",
        guarantee="none in general: the directions of the last round may be orthogonal to all that "
        "matters; with error feedback it works in practice",
        reference="Vogels et al., 2019, arXiv:1905.13727",
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank!r}: give at least 1 column")

    def worker(self) -> "_Worker":
        """Make the half of one worker."""
        return _Worker(self.rank)

    def server(self, parameters: Tensor) -> "_Server":
        """Make the server's half."""
        return _Server(self.rank, parameters)

    def paper_cost(self, dim: int) -> PaperCost | None:
        """None: it depends on the shapes of the layers."""
        return None


class _Layout:
    """Where matrices and whole layers lie in the vector of parameters."""

    def __init__(self, rank: int, shapes: tuple[tuple[int, ...], ...], dim: int) -> None:
        shapes = shapes or ((dim,),)
        self.ranks = [rank_of(rank, shape) for shape in shapes]
        self.sides = [sides_of(shape) for shape in shapes]
        self._sizes = [math.prod(shape) for shape in shapes]
        if sum(self._sizes) != dim:
            raise ValueError(f"the layers hold {sum(self._sizes)} entries, and the vector {dim}")

    def matrices(self, vector: Tensor) -> list[Tensor]:
        """Return views of the layers that are projected, as matrices."""
        layers = zip(torch.split(vector, self._sizes), self.sides, self.ranks, strict=True)
        return [layer.view(sides) for layer, sides, rank in layers if rank]

    def whole(self, vector: Tensor) -> list[Tensor]:
        """Return views of the layers that are sent as they are."""
        layers = zip(torch.split(vector, self._sizes), self.ranks, strict=True)
        return [layer for layer, rank in layers if not rank]

    def thin(self, flat: Tensor, side: int) -> list[Tensor]:
        """Return views of the thin matrices that ``flat`` holds: P for side 0, Q for side 1."""
        shapes = [(s[side], rank) for s, rank in zip(self.sides, self.ranks, strict=True) if rank]
        parts = torch.split(flat, [rows * rank for rows, rank in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def numbers(self, side: int) -> int:
        """Return how many numbers P (side 0) or Q (side 1) of all layers hold."""
        return sum(s[side] * rank for s, rank in zip(self.sides, self.ranks, strict=True))


def _first_right(layout: _Layout, seed: int, like: Tensor) -> Tensor:
    """Return the normal draws that Q starts from, the same for everyone."""
    pairs = zip(layout.sides, layout.ranks, strict=True)
    draws = [normal_draws(seed, i, s[1], rank) for i, (s, rank) in enumerate(pairs) if rank]
    return _join(draws, like)


def _join(tensors: list[Tensor], like: Tensor) -> Tensor:
    flat = [tensor.reshape(-1).to(like) for tensor in tensors]
    return torch.cat(flat) if flat else like.new_zeros(0)


def _message(name: str, numbers: Tensor) -> Message:
    return Message({name: DensePayload(numbers)} if numbers.numel() else {})


class _Worker(Half):
    """Remembers "right" Q, "error" e (between the exchanges A), and "left" P of the last round."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        if "parameters" in news.payloads:
            return self._project(news, oracle, context)
        error = self.remembered("error")
        layout = _Layout(self._rank, context.layer_shapes, len(error))
        left = torch.zeros(layout.numbers(0), dtype=error.dtype)
        payload_of(news, "left", len(left)).add_to(left)
        self.memory["left"] = left
        matrices = layout.matrices(error)
        pairs = zip(matrices, layout.thin(left, 0), strict=True)
        return _message("right", _join([matrix.T @ p for matrix, p in pairs], left))

    def _project(self, news: Message, oracle: Oracle, context: Context) -> Message:
        gradient = oracle.gradient(payload_of(news, "parameters").to_dense(), oracle.sample())
        check_finite(gradient)
        layout = _Layout(self._rank, context.layer_shapes, len(gradient))
        if "right" in news.payloads:
            self._finish_last_round(news, layout)
        elif not self.memory:
            right = _first_right(layout, context.shared_seed, gradient)
            self.memory = {"right": right, "error": torch.zeros_like(gradient)}
        corrected = self.memory["error"].add_(gradient)
        pairs = zip(layout.matrices(corrected), layout.thin(self.memory["right"], 1), strict=True)
        left = _join([matrix @ q for matrix, q in pairs], gradient)
        whole = _join(layout.whole(corrected), gradient)
        for layer in layout.whole(corrected):
            layer.zero_()  # nothing is left of what is sent as it is
        return Message({**_message("left", left).payloads, **_message("whole", whole).payloads})

    def _finish_last_round(self, news: Message, layout: _Layout) -> None:
        """Take over Q, and what the others' projections leave of A as error."""
        right = torch.zeros_like(self.remembered("right"))
        payload_of(news, "right", len(right)).add_to(right)
        self.memory["right"] = right
        rights = layout.thin(right, 1)
        lefts = layout.thin(self.memory["left"], 0)
        for matrix, p, q in zip(layout.matrices(self.memory["error"]), lefts, rights, strict=True):
            matrix.sub_(p @ q.T)


class _Server(Half):
    """Remembers "right" Q of the last round.

    Between the exchanges it keeps "left" P too, and the layers that came whole in its estimate.
    """

    def __init__(self, rank: int, parameters: Tensor) -> None:
        super().__init__()
        self._rank = rank
        self._parameters = parameters
        self._estimate = torch.zeros_like(parameters)

    def news(self, *, context: Context) -> Message:
        if "left" in self.memory:
            return Message({"left": DensePayload(self.memory["left"])})
        parameters = {"parameters": DensePayload(self._parameters)}
        right = self.memory.get("right")
        if right is None or not right.numel():
            return Message(parameters)
        return Message({**parameters, "right": DensePayload(right)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        layout = _Layout(self._rank, context.layer_shapes, len(self._parameters))
        if "left" in self.memory:
            right = self._average(reports, "right", layout.numbers(1))
            self.memory["right"] = right
            return self._estimate_from(layout, self.memory.pop("left"), right)
        left = self._average(reports, "left", layout.numbers(0))
        layers = layout.whole(self._estimate)
        sizes = [len(layer) for layer in layers]
        whole = self._average(reports, "whole", sum(sizes))
        for layer, values in zip(layers, torch.split(whole, sizes), strict=True):
            layer.copy_(values)
        if not left.numel():
            return self._estimate
        lefts = layout.thin(left, 0)
        self.memory["left"] = _join([torch.linalg.qr(p).Q for p in lefts], left)
        return Progress.MORE

    def _average(self, reports: Mapping[int, Message], name: str, numbers: int) -> Tensor:
        average = self._parameters.new_zeros(numbers)
        if numbers:
            add_average(average, reports, name)
        return average

    def _estimate_from(self, layout: _Layout, left: Tensor, right: Tensor) -> Tensor:
        thin = zip(layout.thin(left, 0), layout.thin(right, 1), strict=True)
        for matrix, (p, q) in zip(layout.matrices(self._estimate), thin, strict=True):
            torch.mm(p, q.T, out=matrix)
        return self._estimate
