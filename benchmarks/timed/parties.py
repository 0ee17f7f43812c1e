"""What of a server and of a host of workers is timed, and under which names."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks.timed.stopwatch import Stopwatch
from mlmc_ray.methods import Oracle
from mlmc_ray.payloads import Message
from mlmc_ray.rounds import Answers
from server.server import ParameterServer
from workers.host import WorkerHost
from workers.oracle import ShardOracle
from workers.together import Step


def time_server(server: ParameterServer, watch: Stopwatch) -> None:
    """Time the making of news, decoding, the method's half, and the step.

    They count as "news", "decode", "aggregate" and "optimizer", which looks whether the parameters
    are finite too.
    """
    watch.time(server, "broadcast", "news")
    watch.time(server._broadcast, "close", "news")
    watch.time(server, "_decode", "decode")
    watch.time(server._replica, "estimate", "aggregate")
    watch.time(server._replica, "step", "optimizer")


def time_host(host: WorkerHost, watch: Stopwatch) -> None:
    """Time the reading of news, gradients, what else the workers do, and the encoding of reports.

    They count as "read", "gradient", "compress" and "encode", and what is left of a step as "rest".
    Where news are relayed reading them takes the step of a replica. There may be one server.
    """
    host_step: Callable[..., list[Answers]] = host.step

    def timed_step(
        *args: Any, on_answers: Callable[[int, Answers], None] = lambda *_: None, **kwargs: Any
    ) -> list[Answers]:
        with watch.part("rest"):
            (answers,) = host_step(*args, **kwargs)
        on_answers(0, answers)  # another thread goes on with them, and uses the watch
        return [answers]

    owner: Any = host
    owner.step = timed_step
    watch.time(host._inbox, "read", "read")
    for worker in host._workers.values():
        _time_worker(worker, watch)


def _time_worker(worker: Any, watch: Stopwatch) -> None:
    step: Callable[..., float | None] = worker.step
    step_of: Callable[..., Step] = worker._step_of

    def timed_step(
        oracle: ShardOracle, news: Any, done: Callable[[int, Message], None]
    ) -> float | None:
        with watch.part("compress"):
            return step(oracle, news, watch.timed(done, "encode"))

    def timed_step_of(*args: Any) -> Step:
        half_step = step_of(*args)
        return lambda oracle: half_step(_TimedOracle(oracle, watch))

    worker.step, worker._step_of = timed_step, timed_step_of
    watch.time(worker, "begin", "read")


class _TimedOracle:
    """An oracle whose batches and gradients count as "gradient"."""

    def __init__(self, oracle: Oracle, watch: Stopwatch) -> None:
        self._oracle = oracle
        self._watch = watch

    def sample(self, size: int | None = None) -> Any:
        with self._watch.part("gradient"):
            return self._oracle.sample(size)

    def full(self) -> Any:
        with self._watch.part("gradient"):
            return self._oracle.full()

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        with self._watch.part("gradient"):
            return self._oracle.gradient(at, batch)
