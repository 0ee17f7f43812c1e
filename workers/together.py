"""The halves of several spans, which step together on one model.

Each half runs in a thread of its own and sees an oracle of its span. Where all of them ask for a
gradient it is computed once, at the points that they give together. A half that has its gradient
compresses it while others still do, so that its report can leave.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from mlmc_ray.methods import Oracle
from mlmc_ray.observing import Observer, apart, observed_by, take_over
from mlmc_ray.payloads import Message
from mlmc_ray.spans import Span

Step = Callable[[Oracle], Message]
"""The step of one half."""


def step_together(
    steps: Sequence[Step],
    oracle: Oracle,
    spans: Sequence[Span],
    done: Callable[[int, Message], None],
) -> None:
    """Let the halves of all spans step.

    Args:
        steps: of the halves, in the order of the spans.
        oracle: of the whole vector.
        spans: of the vector.
        done: told of every report as soon as it is there, with the index of its span.

    Raises:
        ValueError: the halves ask for different things.
        Exception: the error of a half; of several that failed by themselves, the first, in the
            order of the spans.
    """
    if len(steps) == 1:
        done(0, steps[0](oracle))
        return
    events: SimpleQueue[_Event] = SimpleQueue()
    observers = apart(len(steps))
    with ThreadPoolExecutor(len(steps)) as threads:
        for span, step, observer in zip(spans, steps, observers, strict=True):
            threads.submit(_run, step, _SpanOracle(span, events), observer)
        _Service(events, oracle, spans, done).run()
    take_over(observers)


@dataclass(frozen=True, slots=True)
class _Event:
    """A half asks for something, or has ended."""

    span: int
    asks: str = ""  # the name of a method of the oracle
    argument: Any = None
    answer: Future[Any] = field(default_factory=Future)
    report: Message | None = None
    error: BaseException | None = None


class _SpanOracle:
    """What a half sees of the oracle: points and gradients of its span."""

    def __init__(self, span: Span, events: "SimpleQueue[_Event]") -> None:
        self.span = span
        self.events = events

    def sample(self, size: int | None = None) -> Any:
        return self._ask("sample", size)

    def full(self) -> Any:
        return self._ask("full", None)

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        if at.shape != (self.span.dim,):
            raise ValueError(
                f"the method asks for the gradient at a point of shape {tuple(at.shape)}, and this "
                f"span has {self.span.dim} parameters; server and workers must run the same problem"
            )
        gradient: Tensor = self._ask("gradient", (at, batch))
        return gradient

    def _ask(self, what: str, argument: Any) -> Any:
        event = _Event(self.span.index, what, argument)
        self.events.put(event)
        return event.answer.result()


def _run(step: Step, oracle: _SpanOracle, observer: Observer | None) -> None:
    try:
        with observed_by(observer):
            report = step(oracle)
        oracle.events.put(_Event(oracle.span.index, report=report))
    except BaseException as error:  # whatever it is, nobody else would hear of it
        oracle.events.put(_Event(oracle.span.index, error=error))


class _OtherFailed(Exception):
    """Ends a half because something else has failed."""


class _Service:
    """Answers the halves until all of them have ended; see ``step_together``."""

    def __init__(
        self,
        events: "SimpleQueue[_Event]",
        oracle: Oracle,
        spans: Sequence[Span],
        done: Callable[[int, Message], None],
    ) -> None:
        self._events = events
        self._oracle = oracle
        self._spans = spans
        self._done = done
        self._running = len(spans)
        self._asking: dict[int, _Event] = {}
        self._errors: dict[int, BaseException] = {}
        self._refusal: Exception | None = None  # of who is told of the reports

    def run(self) -> None:
        """Answer them.

        Raises:
            BaseException: see ``step_together``; if no half failed, what ``done`` raised; or an
                interrupt. The halves have ended in any case.
        """
        try:
            while self._running and not self._failed:
                self._next()
                if self._asking and len(self._asking) == self._running and not self._failed:
                    self._answer()
        finally:
            self._end()
        if self._errors:
            raise self._errors[min(self._errors)]
        if self._refusal is not None:
            raise self._refusal

    @property
    def _failed(self) -> bool:
        return bool(self._errors) or self._refusal is not None

    def _next(self) -> None:
        """Take the next event."""
        event = self._events.get()
        if event.asks:
            self._asking[event.span] = event
            return
        self._running -= 1
        if event.error is not None:
            self._errors[event.span] = event.error
        elif event.report is not None:
            try:
                self._done(event.span, event.report)
            except Exception as error:
                self._refusal = error

    def _answer(self) -> None:
        """Answer what all running halves ask for, or let them fail of the same error."""
        asking = [self._asking[index] for index in sorted(self._asking)]
        self._asking = {}
        try:
            answers = _answers(asking, self._oracle, self._spans)
        except Exception as error:
            for event in asking:
                event.answer.set_exception(error)
            return
        except BaseException:
            self._asking = {event.span: event for event in asking}
            raise
        for event, answer in zip(asking, answers, strict=True):
            event.answer.set_result(answer)

    def _end(self) -> None:
        """Refuse the halves that still run whatever they ask for; note what fails by itself."""
        refused = set(self._asking)
        for event in self._asking.values():
            event.answer.set_exception(_OtherFailed())
        interrupt: KeyboardInterrupt | None = None
        while self._running:
            try:
                event = self._events.get()
            except KeyboardInterrupt as again:  # left now, they would wait for ever
                interrupt = again
                continue
            if event.asks:
                refused.add(event.span)
                event.answer.set_exception(_OtherFailed())
                continue
            self._running -= 1
            if event.error is not None and event.span not in refused:
                self._errors[event.span] = event.error
        if interrupt is not None:
            raise interrupt


def _answers(asking: Sequence[_Event], oracle: Oracle, spans: Sequence[Span]) -> list[Any]:
    """Return what the halves ask for, all of them the same.

    Raises:
        ValueError: they do not.
    """
    what, first = asking[0].asks, asking[0].argument
    same = len(asking) == len(spans) and all(event.asks == what for event in asking)
    if same and what == "gradient":
        same = all(event.argument[1] is first[1] for event in asking)
    elif same:
        same = all(event.argument == first for event in asking)
    if not same:
        raise ValueError(
            f"servers is {len(spans)}, and the method does not ask for the same of the model for "
            "every one of them: give servers: 1"
        )
    if what == "full":
        return [oracle.full()] * len(asking)
    if what == "sample":
        return [oracle.sample(first)] * len(asking)
    gradient = oracle.gradient(torch.cat([event.argument[0] for event in asking]), first[1])
    return [gradient[span.entries] for span in spans]
