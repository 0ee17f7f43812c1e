"""Halves that bring the point to the workers in a way of their own, and answer as others do.

The worker half finds the point at which to evaluate and hands it to a half of another method, the
uplink, as if the server had sent it; the server half hands the reports on to its uplink half.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from mlmc_ray.compressors.base import Context
from mlmc_ray.methods.base import Half, News, Oracle, Progress, ServerHalf, WorkerHalf
from mlmc_ray.methods.reports import payload_of
from mlmc_ray.payloads import DensePayload, Message

_UPLINK = "uplink "
"""How the names of the uplink half's memory begin in a saved state."""


class _OverUplink(Half):
    """A half that saves and restores the memory of its uplink half with its own."""

    def __init__(self, uplink: WorkerHalf | ServerHalf) -> None:
        super().__init__()
        self._inner = uplink

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the memory of both halves."""
        inner = self._inner.state_dict()
        return {**super().state_dict(), **{_UPLINK + name: inner[name] for name in inner}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Replace the memory of both halves by copies."""
        own = {name: tensor for name, tensor in state.items() if not name.startswith(_UPLINK)}
        super().load_state_dict(own)
        inner = {name.removeprefix(_UPLINK): state[name] for name in state.keys() - own.keys()}
        self._inner.load_state_dict(inner)


class DownlinkWorker(_OverUplink, ABC):
    """A worker half that finds the point from the news; the uplink half makes the report.

    Args:
        uplink: expects "parameters" in its news, and nothing else.
    """

    def __init__(self, uplink: WorkerHalf) -> None:
        super().__init__(uplink)
        self._uplink = uplink

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Find the point, and report from there."""
        parameters = DensePayload(self.point(news, context))
        return self._uplink.step(Message({"parameters": parameters}), oracle, context=context)

    @abstractmethod
    def point(self, news: Message, context: Context) -> Tensor:
        """Return where to evaluate, shape (d,); may share memory with this half."""


class DownlinkServer(_OverUplink, ABC):
    """A server half that makes the news; the uplink half makes the estimate."""

    def __init__(self, uplink: ServerHalf) -> None:
        super().__init__(uplink)
        self._uplink = uplink

    @abstractmethod
    def news(self, *, context: Context) -> News:
        """Return what workers need to find their points."""

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Tensor | Progress:
        """Return the uplink's estimate."""
        return self._uplink.step(reports, context=context)


class MirrorWorker(DownlinkWorker):
    """Remembers its copy of the point, "parameters", and adds each "change" to it."""

    def point(self, news: Message, context: Context) -> Tensor:
        """Take over the parameters, or add what has changed."""
        if "parameters" in news.payloads:
            held = self.memory.get("parameters")
            sent = payload_of(news, "parameters", None if held is None else len(held))
            self.memory["parameters"] = sent.to_dense().clone()
        else:
            parameters = self.remembered("parameters")
            payload_of(news, "change", len(parameters)).add_to(parameters)
        return self.memory["parameters"]
