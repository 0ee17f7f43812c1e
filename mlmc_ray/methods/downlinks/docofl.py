"""DoCoFL: the downlink carries a correction to an old point that the worker already holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from mlmc_ray.compressors.base import Compressor, Context, bound
from mlmc_ray.compressors.quantization import ECUQ
from mlmc_ray.compressors.rotation import EDEN
from mlmc_ray.compressors.wrappers.named import named
from mlmc_ray.methods.base import (
    Facts,
    News,
    OneCompressed,
    Oracle,
    Progress,
    ServerHalf,
    WorkerHalf,
)
from mlmc_ray.methods.checks import require_unbiased, whole
from mlmc_ray.methods.compressed_sgd import CompressedSGD
from mlmc_ray.methods.downlinks.halves import DownlinkServer, DownlinkWorker
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.methods.theory import shares_out
from mlmc_ray.observing import observed
from mlmc_ray.payloads import DensePayload, Message, Payload
from mlmc_ray.seeding import generator_for, seed_for


@dataclass(frozen=True, kw_only=True, slots=True)
class DoCoFL(OneCompressed):
    """Send what the point differs from an anchor, in few bits; anchors cost more and last long.

    Every ``anchor_rounds`` rounds the server publishes an anchor a = C_a(x), and it keeps the last
    ``anchors_alive``. The first is x_0 itself. A round is

        server: send worker i C_c(x - a), a being the anchor that it holds;
                if that is no longer alive, or it has none, send the newest too
        worker i: send its a's number, and C(grad f_i(a + C_c(x - a)))
        server: x <- x - step times the average of the gradients

    A worker that takes part in every round fetches an anchor every ``anchors_alive`` times
    ``anchor_rounds`` rounds; with one anchor alive, as soon as there is a newer one. The server
    learns from the reports who holds which, so a round may do without some of the workers; one that
    joins after the first ``anchor_rounds`` never needs the whole of x. Workers with the same anchor
    get the same news. With an unbiased C_c the expectation of the point is x.

    Args:
        compressor: C, unbiased.
        anchor: C_a, any but PermK.
        correction: C_c, any but PermK, of a few bits.
        anchor_rounds: from one anchor to the next, at least 1.
        anchors_alive: how many the server keeps, at least 1.

    References:
        Dorfman, Vargaftik, Ben-Itzhak and Levy, 2023, arXiv:2302.00543. There, workers fetch
        anchors ahead of the rounds in which they take part; here, at the start of such a round.
    """

    compressor: Compressor
    anchor: Compressor = field(default_factory=lambda: ECUQ(bits=4))
    correction: Compressor = field(default_factory=lambda: EDEN(bits=1.0))
    anchor_rounds: int = 10
    anchors_alive: int = 3

    allows_absence: ClassVar[bool] = True
    facts: ClassVar[Facts] = Facts(
        compressor="unbiased",
        uplink="C",
        downlink="C_c, and C_a when the worker's anchor has ended",
        news=("parameters", "correction", "anchor"),
        reports=("gradient", "anchor"),
        first="d down",
        worker_memory="d",
        server_memory="(anchors_alive + 1) d",
        guarantee="none is known here; the noise of the point adds to that of compressed-sgd",
        reference="Dorfman et al., 2023, arXiv:2302.00543",
    )

    def __post_init__(self) -> None:
        require_unbiased("docofl", self.compressor)
        for name in ("anchor", "correction"):
            if shares_out(getattr(self, name)):
                raise ValueError(
                    f"{name} is {getattr(self, name)}: all workers get the same payload, and this "
                    "one shares out the entries among them; give another, such as eden or rand-k"
                )
        for name in ("anchor_rounds", "anchors_alive"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give at least 1")

    def worker(self) -> WorkerHalf:
        """Make the half of one worker."""
        return _Worker(CompressedSGD(compressor=self.compressor).worker())

    def server(self, parameters: Tensor) -> ServerHalf:
        """Make the server's half."""
        return _Server(self, parameters)


class _Worker(DownlinkWorker):
    """Remembers the "anchor" that it holds, shape (d,), and its "number", int64."""

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        report = super().step(news, oracle, context=context)
        return Message(report.payloads, {"anchor": float(self.memory["number"])})

    def point(self, news: Message, context: Context) -> Tensor:
        whole_point = "parameters" in news.payloads
        if whole_point:
            self._hold(payload_of(news, "parameters").to_dense().clone(), 0)
        elif "anchor" in news.payloads:
            self._hold(self._new_anchor(news), whole(news.scalars, "anchor", 0))
        point = self.remembered("anchor").clone()
        if "correction" in news.payloads or not whole_point:
            payload_of(news, "correction", len(point)).add_to(point)
        return point

    def _new_anchor(self, news: Message) -> Tensor:
        """Return it, in the place of the one that is held if there is one."""
        held = self.memory.get("anchor")
        if held is None:
            return payload_of(news, "anchor").to_dense().clone()
        payload_of(news, "anchor", len(held)).add_to(held.zero_())
        return held

    def _hold(self, anchor: Tensor, number: int) -> None:
        self.memory = {"anchor": anchor, "number": torch.tensor(number)}


class _Server(DownlinkServer):
    """Remembers the anchors that are alive, and who holds which.

    The memory is the number of "rounds"; "held", shape (workers,), the number of each one's anchor
    or -1; "anchor n", shape (d,); and "published", the point of the newest anchor, from which its
    "draws" make the same payload again for every worker that fetches it later.
    """

    def __init__(self, method: DoCoFL, parameters: Tensor) -> None:
        super().__init__(CompressedSGD(compressor=method.compressor).server(parameters))
        self._method = method
        self._parameters = parameters
        self._made: tuple[int, Payload] | None = None  # the newest anchor's draws and payload

    def news(self, *, context: Context) -> News:
        if not self.memory:
            self.memory = {
                "rounds": torch.tensor(0),
                "held": torch.full((context.num_workers,), -1),
                "anchor 0": self._parameters.clone(),
            }
        if not self.memory["rounds"]:
            return Message({"parameters": DensePayload(self._parameters)})
        if not int(self.memory["rounds"]) % self._method.anchor_rounds:
            self._publish(context)
        held = [number if self._alive(number) else -1 for number in self.memory["held"].tolist()]
        made = {number: self._news_for(number, context) for number in sorted(set(held))}
        return {i: made[number] for i, number in enumerate(held)}

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        held = self.memory["held"].clone()
        for i, report in reports.items():
            number = int(held[i]) if self._alive(int(held[i])) else self._newest()
            if report.scalars.get("anchor") != number:
                raise ValueError(
                    f"report of worker {i}: anchor is {report.scalars.get('anchor')}, and its news "
                    f"were for anchor {number}; server and workers must go on from the same round"
                )
            held[i] = number
        estimate = self._uplink.step(reports, context=context)
        self.memory["held"] = held
        self.memory["rounds"] += 1
        return estimate

    def _newest(self) -> int:
        return int(self.memory["rounds"]) // self._method.anchor_rounds

    def _alive(self, number: int) -> bool:
        return f"anchor {number}" in self.memory

    def _publish(self, context: Context) -> None:
        """Make a new anchor of the point, and end the oldest if there are too many."""
        self.memory["published"] = self._parameters.clone()
        self.memory["draws"] = torch.tensor(seed_for(context.shared_seed, "anchor"))
        anchor = torch.zeros_like(self._parameters)
        self._payload(context).add_to(anchor)
        self.memory[f"anchor {self._newest()}"] = anchor
        self.memory.pop(f"anchor {self._newest() - self._method.anchors_alive}", None)

    def _payload(self, context: Context) -> Payload:
        """Return the newest anchor as it was published, always with the same draws."""
        draws = int(self.memory["draws"])
        if self._made is None or self._made[0] != draws:
            generator = generator_for(draws)
            place = replace(context, shared_seed=draws, generator=generator)
            anchor = observed(bound(self._method.anchor, place))
            self._made = draws, anchor.compress(self.memory["published"], generator=generator)
        return self._made[1]

    def _news_for(self, held: int, context: Context) -> Message:
        """Return the news of those who hold an anchor that is alive; -1 for the others."""
        number = self._newest() if held < 0 else held
        lacking = self._parameters - self.memory[f"anchor {number}"]
        correction = observed(bound(self._method.correction, named(context, "correction")))
        payloads = {"correction": correction.compress(lacking, generator=context.generator)}
        if held >= 0:
            return Message(payloads)
        if not number:
            return Message({**payloads, "parameters": DensePayload(self.memory["anchor 0"])})
        return Message({**payloads, "anchor": self._payload(context)}, {"anchor": float(number)})
