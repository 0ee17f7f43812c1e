"""Where the calls of several servers meet that belong to one exchange."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from mlmc_ray.rounds import Answers
from workers.host import WorkerHost
from workers.inbox import Frames


class Meeting:
    """Runs an exchange once all servers have called for it, and answers each as soon as it can.

    Args:
        host: of the workers.
        num_servers: how many call, each from a thread of its own.
    """

    def __init__(self, host: WorkerHost, num_servers: int) -> None:
        self._host = host
        self._num_servers = num_servers
        self._calls: dict[int, tuple[Frames, Future[Answers]]] = {}
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1)

    def step(
        self, index: int, round_index: int, exchange_index: int, frames: Frames, observe: bool
    ) -> Answers:
        """Bring the news of one server, and wait for the answers to it.

        Raises:
            MlmcRayError: see ``WorkerHost.step``; every server gets it.
        """
        answers: Future[Answers] = Future()
        with self._lock:
            self._calls[index] = (frames, answers)
            calls = self._calls
            if len(calls) == self._num_servers:
                self._calls = {}
                self._thread.submit(self._run, (round_index, exchange_index), calls, observe)
        return answers.result()

    def _run(
        self,
        place: tuple[int, int],
        calls: Mapping[int, tuple[Frames, "Future[Answers]"]],
        observe: bool,
    ) -> None:
        def answer(index: int, answers: Answers) -> None:
            calls[index][1].set_result(answers)

        try:
            frames = [calls[index][0] for index in range(self._num_servers)]
            self._host.step(*place, frames, observe=observe, on_answers=answer)
        except Exception as error:
            for _, waiting in calls.values():
                if not waiting.done():
                    waiting.set_exception(error)
