"""The parameter server, as a plain object."""

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.downlinks.base import is_request
from mlmc_ray.errors import RoundError, WireError
from mlmc_ray.ledger import Direction, Ledger
from mlmc_ray.methods import Progress
from mlmc_ray.methods.binding import bound_method
from mlmc_ray.observing import Compression, observing
from mlmc_ray.payloads import Message
from mlmc_ray.plan import RunPlan
from mlmc_ray.problems import initial_model
from mlmc_ray.rounds import Traffic
from mlmc_ray.warm_up import warm_up
from mlmc_ray.wire import decode
from mlmc_ray.wire.anatomy import anatomy
from server.broadcast import Broadcast
from server.evaluation import WholeModel


class ParameterServer:
    """Holds parameters, turns reports into an estimate, steps, and counts every frame.

    A round is ``broadcast``, then ``receive`` with the report frames of those who got news, and
    both again for as long as ``receive`` returns None. Of an asynchronous method ``receive`` takes
    the reports of some of those that got news in this or in an earlier round and have not reported;
    with a quorum, of some of those that got news in this round.

    Where there are several servers each has a span of the parameters. ``take`` and ``finish`` stand
    for ``receive`` then, since a clipped step needs the norm of the whole estimate.

    Args:
        plan: of the run.
        index: which of the servers this is; the first evaluates.

    Attributes:
        parameters: shape (entries of the span,); the server's own memory.
        squared_norm: of the last estimate, if steps are clipped; else 0.
        round_index: the round that ``broadcast`` opens next, or has opened.
        exchange_index: which exchange of that round, from 0.
        ledger: the frames of that round so far, a refused report included.
        traffic: what the frames of an observed round are made of, until the next ``observe``.
        compressions: what the server has compressed in it.
        notes: what somebody should know about the round that was opened last, a line each.
        repeated: frames of it that were sent again, as their first receivers were lost.
        timed: whether the method goes by how long workers take; see ``took``.
    """

    def __init__(self, plan: RunPlan, index: int = 0) -> None:
        problem = plan.problem.load()
        model = initial_model(problem, plan.seed)
        self._span = span = plan.spans(model)[index]
        self._alone = plan.servers == 1
        whole = model.parameters
        self.parameters = whole if self._alone else whole[span.entries].clone()
        self._whole = None if index else WholeModel(problem, model, plan.seed)
        self._replica = plan.replica(span, self.parameters, model.statistics())
        warm_up(plan.method, span.layer_sizes)
        self.round_index = 0
        self.exchange_index = 0
        self.squared_norm = 0.0
        self.ledger = Ledger()
        self.traffic: Traffic | None = None
        self.compressions: list[Compression] = []
        self.notes: list[str] = []
        self.repeated = Ledger()
        self._asynchronous = plan.method.asynchronous
        self.timed = plan.method.timed
        self._needs_all = not plan.method.asynchronous and plan.quorum is None
        self._broadcast = Broadcast(plan, self._replica)
        self._asked: dict[int, int] = {}  # who got news and is to report, with which statistics
        self._reports: dict[int, tuple[Message, bytes | memoryview]] = {}  # of the open exchange
        self._decoded: dict[int, tuple[bytes | memoryview, Message]] = {}  # those not taken yet
        cost = bound_method(plan.method, self._replica.context(0, 0)).paper_cost(span.dim)
        self._paper_uplink = cost.bits if cost else None
        self._paper_downlink = 64 * span.dim  # the paper counts 64 bits a number
        self._num_layers = len(model.layers)
        self._num_statistics = model.num_statistics if index == 0 else 0
        self._max_dim = max(plan.method.largest_payload(span.dim), self._num_statistics)

    def observe(self, wanted: bool) -> None:
        """Look at the frames and the compressions of the next round, or of no round."""
        self.traffic = Traffic() if wanted else None
        self.compressions = []
        self.notes = []
        self.repeated = Ledger()

    def broadcast(self, busy: Collection[int] = ()) -> dict[int, bytes]:
        """Return the news of this exchange as frames, by worker, each counted.

        Workers that get the same news get the same object. Those that are not in it have nothing
        to do. Running statistics are part of the news for workers that lack the newest.

        Args:
            busy: workers that get none, since they are still at work for an earlier round.

        Raises:
            RoundError: the method's settings do not fit, or the news cannot be encoded.
        """
        place = (self.round_index, self.exchange_index)
        self._decoded = {}
        with self._observing():
            if not self._broadcast.lacking:
                self._broadcast.open(*place, self._statistics)
            frames = self._broadcast.frames()
        frames = {worker_id: frame for worker_id, frame in frames.items() if worker_id not in busy}
        for worker_id, frame in frames.items():
            paper = self._paper_downlink if self._broadcast.in_full else None
            self.ledger.record(self.round_index, worker_id, "downlink", frame, paper)
        self._count("downlink", frames.values())
        outstanding = self._asked if self._asynchronous else {}
        self._asked = {**outstanding, **dict.fromkeys(frames, self._replica.num_averages)}
        return frames

    def send_anew(self, workers: Iterable[int]) -> dict[int, bytes]:
        """Return the news of the open exchange for workers whose process was lost, by worker.

        They are among those that ``broadcast`` asked, and have no copy of the parameters now. The
        frames are not in the ledger, which has those that were lost, but ``repeated``.

        Raises:
            RoundError: the news cannot be encoded.
        """
        frames = self._broadcast.anew(workers)
        for worker_id, frame in frames.items():
            self.repeated.record(self.round_index, worker_id, "downlink", frame)
        return frames

    def start_again(self, workers: Collection[int]) -> None:
        """Let the next ``broadcast`` ask workers of an asynchronous method whose reports are lost.

        Raises:
            LostError: the method cannot do without them.
        """
        self._replica.start_again(workers, self.round_index)
        self._asked = {i: known for i, known in self._asked.items() if i not in workers}

    def count_late(self, worker_id: int, frame: bytes | memoryview) -> None:
        """Count a report that came when its round was over; nothing of it is used."""
        self.ledger.record(self.round_index, worker_id, "uplink", frame, self._paper_uplink)

    def decode(self, worker_id: int, frame: bytes | memoryview) -> None:
        """Decode a report as soon as it is there, while others are on their way.

        The same object must be among those that ``take`` or ``receive`` gets, which say what is
        wrong with it.
        """
        with suppress(RoundError):
            self._decoded[worker_id] = (frame, self._decode(worker_id, frame))

    def receive(self, frames: Mapping[int, bytes | memoryview]) -> Ledger | None:
        """Take the reports of an exchange, and step if that ends the round.

        Args:
            frames: a report of every worker that got news; of an asynchronous method, of one or
                more of those that have news to answer.

        Returns:
            The ledger of the round, both ways; None if the round goes on, with another exchange or
            with full copies for workers that have asked for one.

        Raises:
            RoundError: a report is missing, not asked for, malformed or not of this method, or the
                parameters are not finite after the step; names the round and the worker.
        """
        return self.finish(self.squared_norm) if self.take(frames) else None

    def took(self, elapsed_s: Mapping[int, float]) -> None:
        """Learn how long workers took, before ``take``; see ``TimedHalf.took``."""
        self._replica.took(elapsed_s)

    def take(self, frames: Mapping[int, bytes | memoryview]) -> bool:
        """Take the reports of an exchange, and return whether they are the last of the round.

        Raises:
            RoundError: see ``receive``.
        """
        self._check_asked(frames.keys())
        lacking = set()
        for worker_id in sorted(frames):
            frame, paper_bits = frames[worker_id], self._paper_uplink
            try:
                report = self._report(worker_id, frame)
                if is_request(report):
                    lacking.add(worker_id)
                    paper_bits = 0
                else:
                    self._reports[worker_id] = (report, frame)
            finally:
                self.ledger.record(self.round_index, worker_id, "uplink", frame, paper_bits)
        self._count("uplink", frames.values())
        if lacking and self._asynchronous:
            raise RoundError(
                f"round {self.round_index}: workers {sorted(lacking)} ask for a full copy, and "
                "were sent one: server and workers must have the same downlink"
            )
        if lacking:
            self.notes.append(self._broadcast.send_again(lacking))
            self._asked = {}
            return False
        if self._estimate() is Progress.MORE:
            self.exchange_index += 1
            return False
        return True

    def _report(self, worker_id: int, frame: bytes | memoryview) -> Message:
        """Return the message of a frame, which may have been decoded as it came."""
        decoded, report = self._decoded.pop(worker_id, (None, None))
        if report is not None and decoded is frame:
            return report
        return self._decode(worker_id, frame)

    def finish(self, squared_norm: float) -> Ledger:
        """Take the step, and end the round.

        Args:
            squared_norm: of the whole estimate, if steps are clipped.

        Returns:
            The ledger of the round, both ways.

        Raises:
            RoundError: the parameters are not finite after the step.
        """
        self._replica.step(squared_norm, self.round_index)
        closed, self.ledger = self.ledger, Ledger()
        self.round_index += 1
        self.exchange_index = 0
        return closed

    def _check_asked(self, reporting: Set[int]) -> None:
        asked = set(self._asked)
        some = bool(reporting) and reporting <= asked
        if not (reporting == asked if self._needs_all else some):
            raise RoundError(
                f"round {self.round_index}: reports came from workers {sorted(reporting)}, "
                f"expected {'' if self._needs_all else 'some of '}{sorted(asked)}"
            )

    def evaluate(self, *others: Tensor) -> dict[str, float]:
        """Evaluate the current parameters with the problem's own measures.

        Args:
            *others: the parameters of the other servers, in their order.

        Raises:
            ProblemError: the problem's own code failed, or did not return named numbers.
        """
        return self._model(others).evaluate(self.round_index)

    def model_state(self, *others: Tensor) -> dict[str, Any]:
        """Return a copy of the model's ``state_dict``, for saving; see ``evaluate``."""
        return self._model(others).state()

    def _model(self, others: Sequence[Tensor]) -> WholeModel:
        """Return the model with the current parameters."""
        if self._whole is None:
            raise RoundError("only the first server has the whole model")
        if not self._alone:
            self._whole.put(self.parameters, *others)
        return self._whole

    def _statistics(self) -> Tensor:
        return self._whole.flat.statistics() if self._whole else torch.empty(0)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of what the server remembers between rounds."""
        return {
            "round_index": self.round_index,
            **self._replica.state_dict(),
            "buffers": copy.deepcopy(self._whole.flat.buffers()) if self._whole else {},
            "known_statistics": dict(self._broadcast.known_statistics),
            "statistics_now": self._replica.statistics.clone(),
            "downlink": self._broadcast.state_dict(),
            "copies": self._broadcast.copies(),
            "asked": dict(self._asked) if self._asynchronous else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; a part that is left out stays as it is.

        Without "known_statistics" every worker is sent the running statistics anew, and without
        "copies" a full copy of the parameters. With them, hosts must load their copies too.
        """
        self.round_index = state["round_index"]
        self.exchange_index = 0
        self._replica.load_state_dict(state)
        if self._whole:
            self._whole.flat.set_buffers(copy.deepcopy(state["buffers"]))
            self._replica.statistics = state["statistics_now"].clone()
        self._broadcast.known_statistics.update(state.get("known_statistics", {}))
        self._broadcast.load_state_dict(state.get("downlink", {}))
        self._broadcast.load_copies(state.get("copies", {}))
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
                self._span.layer_sizes,
                max_dim=self._max_dim,
                without_layers=("buffers",),
            )
            self.traffic.count(direction, parts, same[key], self._span, self._num_layers)

    def _decode(self, worker_id: int, frame: bytes | memoryview) -> Message:
        place = f"round {self.round_index}: report of worker {worker_id}"
        try:
            report = decode(frame, max_dim=self._max_dim)
        except WireError as error:
            raise RoundError(f"{place}: {error}") from error
        buffers = report.payloads.get("buffers")
        if buffers is not None and buffers.dim != self._num_statistics:
            raise RoundError(
                f"{place}: buffers has {buffers.dim} entries, the model here has "
                f"{self._num_statistics}; server and workers must run the same problem"
            )
        return report

    def _estimate(self) -> Tensor | Progress:
        """Give the reports to the method, in worker order."""
        reports = {i: self._reports[i][0] for i in sorted(self._reports)}
        frames = {i: frame for i, (_, frame) in self._reports.items()}
        self._reports = {}
        before = self._replica.num_averages
        with self._observing():
            result = self._replica.estimate(reports, self.round_index, self.exchange_index)
        self.squared_norm = self._replica.squared_norm
        if self._whole and self._replica.num_averages > before:
            self._whole.flat.set_statistics(self._replica.statistics)
        self._broadcast.answered({i: self._asked.get(i, before) for i in reports})
        if self._asynchronous:
            self._asked = {i: known for i, known in self._asked.items() if i not in reports}
        self._broadcast.close(frames, more=result is Progress.MORE)
        return result
