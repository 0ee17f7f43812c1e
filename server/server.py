"""The parameter server, as a plain object."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlmc_ray.compressors import Context
from mlmc_ray.errors import NonFiniteError, RoundError, WireError
from mlmc_ray.kernels.finite import all_finite
from mlmc_ray.ledger import Direction, Ledger
from mlmc_ray.methods import SERVER, Method, Progress
from mlmc_ray.methods.binding import bound_method
from mlmc_ray.methods.reports import add_average
from mlmc_ray.observing import Compression, observing
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.problems import ProblemSource, explaining, initial_model
from mlmc_ray.rounds import Traffic
from mlmc_ray.seeding import drawing, generator_for, seed_for
from mlmc_ray.warm_up import warm_up
from mlmc_ray.wire import decode, encode
from mlmc_ray.wire.anatomy import anatomy
from server.optimizers import Optimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerPlan:
    """What a parameter server is made from.

    Args:
        problem: where the problem comes from.
        method: makes the server half.
        optimizer: takes the step; None if the method does.
        num_workers: how many reports a round has.
        seed: the run's seed.
    """

    problem: ProblemSource
    method: Method
    optimizer: Optimizer | None
    num_workers: int
    seed: int


class ParameterServer:
    """Holds the parameters, turns reports into an estimate, steps, and counts every frame.

    A round is ``broadcast``, then ``receive`` with the report frames of those who got news, and
    both again for as long as ``receive`` returns None. Of an asynchronous method ``receive`` takes
    the reports of some of those that got news in this or in an earlier round and have not reported.

    Attributes:
        round_index: the round that ``broadcast`` opens next, or has opened.
        exchange_index: which exchange of that round, from 0.
        ledger: the frames of that round so far, a refused report included.
        traffic: what the frames of an observed round are made of, until the next ``observe``.
        compressions: what the server has compressed in it.
    """

    def __init__(self, plan: ServerPlan) -> None:
        self._problem = plan.problem.load()
        self._model = initial_model(self._problem, plan.seed)
        self._parameter = nn.Parameter(self._model.parameters)
        self._optimizer = plan.optimizer.build(self._parameter) if plan.optimizer else None
        self._half = plan.method.server(self._model.parameters)
        warm_up(plan.method, self._model.layer_sizes)
        self._num_workers = plan.num_workers
        self._seed = plan.seed
        self.round_index = 0
        self.exchange_index = 0
        self.ledger = Ledger()
        self.traffic: Traffic | None = None
        self.compressions: list[Compression] = []
        self._asynchronous = plan.method.asynchronous
        self._statistics = 1 if self._model.num_statistics else 0  # counts the averages
        self._known_statistics = dict.fromkeys(range(plan.num_workers), 0)  # by worker
        self._asked: dict[int, int] = {}  # who got news and is to report, with which statistics
        dim = self._model.parameters.numel()
        cost = bound_method(plan.method, self._context()).paper_cost(dim)
        self._paper_uplink = cost.bits if cost else None
        self._max_dim = max(plan.method.largest_payload(dim), self._model.num_statistics)
        self._paper_downlink = 64 * dim  # the paper counts 64 bits a number

    @property
    def parameters(self) -> Tensor:
        """The parameters, shape (d,); the server's own memory."""
        return self._model.parameters

    def observe(self, wanted: bool) -> None:
        """Look at the frames and the compressions of the next round, or of no round."""
        self.traffic = Traffic() if wanted else None
        self.compressions = []

    def broadcast(self) -> dict[int, bytes]:
        """Return the news of this exchange as frames, by worker, each counted.

        Workers that get the same news get the same object. Those that are not in it have nothing
        to do. Running statistics are part of the news for workers that lack the newest.

        Raises:
            RoundError: the method's settings do not fit, or the news cannot be encoded.
        """
        try:
            with self._observing():
                news = self._half.news(context=self._context())
        except ValueError as error:
            raise RoundError(f"round {self.round_index}: {error}") from error
        if isinstance(news, Message):
            news = dict.fromkeys(range(self._num_workers), news)
        made: dict[tuple[int, bool], bytes] = {}
        frames = {}
        for worker_id in sorted(news):
            lacks = self._known_statistics[worker_id] < self._statistics
            key = (id(news[worker_id]), lacks)
            if key not in made:
                made[key] = self._encode(self._with_statistics(news[worker_id], lacks))
            frames[worker_id] = frame = made[key]
            self.ledger.record(self.round_index, worker_id, "downlink", frame, self._paper_downlink)
        self._count("downlink", frames.values())
        outstanding = self._asked if self._asynchronous else {}
        self._asked = {**outstanding, **dict.fromkeys(frames, self._statistics)}
        return frames

    def receive(self, frames: Mapping[int, bytes | memoryview]) -> Ledger | None:
        """Take the reports of an exchange, and step if that ends the round.

        Args:
            frames: a report of every worker that got news; of an asynchronous method, of one or
                more of those that have news to answer.

        Returns:
            The ledger of the round, both ways; None if the round goes on.

        Raises:
            RoundError: a report is missing, not asked for, malformed or not of this method, or the
                parameters are not finite after the step; names the round and the worker.
        """
        self._check_asked(frames.keys())
        reports = {}
        for worker_id in sorted(frames):
            frame = frames[worker_id]
            self.ledger.record(self.round_index, worker_id, "uplink", frame, self._paper_uplink)
            reports[worker_id] = self._decode(worker_id, frame)
        self._count("uplink", frames.values())
        if self._step(reports) is Progress.MORE:
            self.exchange_index += 1
            return None
        closed, self.ledger = self.ledger, Ledger()
        self.round_index += 1
        self.exchange_index = 0
        return closed

    def _check_asked(self, reporting: Set[int]) -> None:
        asked = set(self._asked)
        some = bool(reporting) and reporting <= asked
        if not (some if self._asynchronous else reporting == asked):
            raise RoundError(
                f"round {self.round_index}: reports came from workers {sorted(reporting)}, "
                f"expected {'some of ' if self._asynchronous else ''}{sorted(asked)}"
            )

    def evaluate(self) -> dict[str, float]:
        """Evaluate the current parameters with the problem's own measures.

        Raises:
            ProblemError: the problem's own code failed, or did not return named numbers.
        """
        self._model.module.eval()
        seed = seed_for(self._seed, "evaluate", self.round_index)
        with explaining("evaluating"), drawing(seed):
            measures = self._problem.evaluate(self._model.module)
            if not isinstance(measures, Mapping) or not measures:
                raise ValueError(
                    "evaluate returns named measures, such as {'accuracy': 0.9}, and this one "
                    f"returned {measures!r:.100}"
                )
            for name in measures:
                if not isinstance(name, str) or not 0 < len(name) <= 80 or not name.isprintable():
                    raise ValueError(f"{name!r:.100} is no name of a measure: give a short word")
            self._model.check_parameters()
            return {name: float(value) for name, value in measures.items()}

    def model_state(self) -> dict[str, Any]:
        """Return a copy of the model's ``state_dict``, for saving."""
        return copy.deepcopy(self._model.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what the server remembers between rounds."""
        return {
            "round_index": self.round_index,
            "parameters": self._model.parameters.clone(),
            "buffers": copy.deepcopy(self._model.buffers()),
            "half": self._half.state_dict(),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()["state"])
            if self._optimizer
            else {},
            "statistics": self._statistics,
            "known_statistics": dict(self._known_statistics),
            "asked": dict(self._asked) if self._asynchronous else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; a part that is left out stays as it is.

        Without "known_statistics" every worker is sent the running statistics anew.
        """
        self.round_index = state["round_index"]
        self.exchange_index = 0
        self._model.parameters.copy_(state["parameters"])
        self._model.set_buffers(copy.deepcopy(state["buffers"]))
        if "half" in state:
            self._half.load_state_dict(state["half"])
        if self._optimizer and "optimizer" in state:
            own = self._optimizer.state_dict()
            self._optimizer.load_state_dict({**own, "state": copy.deepcopy(state["optimizer"])})
        self._statistics = state["statistics"]
        self._known_statistics.update(state.get("known_statistics", {}))
        self._asked = dict(state.get("asked", {}))

    @contextmanager
    def _observing(self) -> Iterator[None]:
        with observing(self.traffic is not None) as seen:
            yield
        self.compressions += seen.compressions

    def _count(self, direction: Direction, frames: Iterable[bytes | memoryview]) -> None:
        """Count what frames are made of, if anybody looks."""
        if self.traffic is None:
            return
        same = Counter(id(frame) for frame in frames)
        distinct = {id(frame): frame for frame in frames}
        for key, frame in distinct.items():
            parts = anatomy(
                frame,
                self._model.layer_sizes,
                max_dim=self._max_dim,
                without_layers=("buffers",),
            )
            self.traffic.count(direction, parts, same[key])

    def _context(self) -> Context:
        names = (self.round_index, *([self.exchange_index] if self.exchange_index else []))
        return Context(
            generator=generator_for(self._seed, "server", *names),
            shared_seed=seed_for(self._seed, "shared", self.round_index),
            worker_id=SERVER,
            num_workers=self._num_workers,
            layer_sizes=self._model.layer_sizes,
            layer_shapes=self._model.layer_shapes,
        )

    def _with_statistics(self, news: Message, wanted: bool) -> Message:
        if not wanted:
            return news
        buffers = DensePayload(self._model.statistics())
        return Message({**news.payloads, "buffers": buffers}, news.scalars)

    def _encode(self, news: Message) -> bytes:
        try:
            return encode(news)
        except (WireError, NonFiniteError) as error:
            raise RoundError(f"round {self.round_index}: the server's news: {error}") from error

    def _decode(self, worker_id: int, frame: bytes | memoryview) -> Message:
        place = f"round {self.round_index}: report of worker {worker_id}"
        try:
            report = decode(frame, max_dim=self._max_dim)
        except WireError as error:
            raise RoundError(f"{place}: {error}") from error
        buffers = report.payloads.get("buffers")
        if buffers is not None and buffers.dim != self._model.num_statistics:
            raise RoundError(
                f"{place}: buffers has {buffers.dim} entries, the model here has "
                f"{self._model.num_statistics}; server and workers must run the same problem"
            )
        return report

    def _step(self, reports: Mapping[int, Message]) -> Tensor | Progress:
        try:
            with self._observing():
                result = self._half.step(reports, context=self._context())
        except ValueError as error:
            raise RoundError(f"round {self.round_index}: {error}") from error
        self._settle(reports)
        if result is Progress.MORE:
            return result
        if isinstance(result, Tensor) and self._optimizer:
            self._parameter.grad = result
            self._optimizer.step()
        if not all_finite(self._model.parameters):
            raise RoundError(
                f"round {self.round_index}: the parameters are no longer finite: training "
                "diverged; lower the step size"
            )
        return result

    def _settle(self, reports: Mapping[int, Message]) -> None:
        """Note who has answered; take over running statistics, if any came, for everyone.

        They become the average over the reports that hold some. Of an asynchronous method each of
        these moves them by one worker's share of the way instead, for the others are at work.
        """
        for worker_id in reports:
            self._known_statistics[worker_id] = self._asked[worker_id]
            if self._asynchronous:
                del self._asked[worker_id]
        carrying = {i: report for i, report in reports.items() if "buffers" in report.payloads}
        if not carrying:
            return
        if self._asynchronous:
            statistics = self._model.statistics() * (1 - len(carrying) / self._num_workers)
            add_average(statistics, carrying, "buffers", among=self._num_workers)
        else:
            statistics = torch.zeros(self._model.num_statistics)
            add_average(statistics, carrying, "buffers")
        self._model.set_statistics(statistics)
        self._statistics += 1
