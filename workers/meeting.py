"""Where the calls of several servers meet that belong to one exchange."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from mlmc_ray.errors import RoundError
from mlmc_ray.rounds import Answers
from workers.host import WorkerHost
from workers.inbox import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """What a server has brought, and what it waits for."""

    round_index: int
    exchange_index: int
    frames: Frames
    answers: "Future[Answers]" = field(default_factory=Future)


class Meeting:
    """Runs an exchange once all servers have called for it, and answers each as soon as it can.

    Args:
        host: of the workers.
        num_servers: how many call, each from a thread of its own.
    """

    def __init__(self, host: WorkerHost, num_servers: int) -> None:
        self._host = host
        self._num_servers = num_servers
        self._calls: dict[int, _Call] = {}
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1)

    def step(
        self, index: int, round_index: int, exchange_index: int, frames: Frames, observe: bool
    ) -> Answers:
        """Bring the news of one server, and wait for the answers to it.

        Raises:
            RoundError: the servers are not in the same exchange; every server gets it.
            MlmcRayError: see ``WorkerHost.step``; every server gets it that has no answers yet.
        """
        call = _Call(round_index=round_index, exchange_index=exchange_index, frames=frames)
        with self._lock:
            self._calls[index] = call
            calls = self._calls
            if len(calls) == self._num_servers:
                self._calls = {}
                self._thread.submit(self._run, calls, observe)
        return call.answers.result()

    def _run(self, calls: Mapping[int, _Call], observe: bool) -> None:
        def answer(index: int, answers: Answers) -> None:
            calls[index].answers.set_result(answers)

        try:
            first = calls[0]
            self._check_places(calls)
            frames = [calls[index].frames for index in range(self._num_servers)]
            place = (first.round_index, first.exchange_index)
            self._host.step(*place, frames, observe=observe, on_answers=answer)
        except BaseException as error:  # in this thread nobody else would hear of it
            for call in calls.values():
                if not call.answers.done():
                    call.answers.set_exception(error)

    def _check_places(self, calls: Mapping[int, _Call]) -> None:
        """Refuse calls for different exchanges.

        Raises:
            RoundError: says which.
        """
        first = calls[0]
        for index, call in calls.items():
            if (call.round_index, call.exchange_index) != (first.round_index, first.exchange_index):
                raise RoundError(
                    f"round {first.round_index}: server 0 is in exchange {first.exchange_index} "
                    f"of it, and server {index} in exchange {call.exchange_index} of round "
                    f"{call.round_index}: the method needs servers: 1"
                )
