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
        Exception: the first error of a half, in the order of the spans.
    """
    if len(steps) == 1:
        done(0, steps[0](oracle))
        return
    events: SimpleQueue[_Event] = SimpleQueue()
    observers = apart(len(steps))
    with ThreadPoolExecutor(len(steps)) as threads:
        for span, step, observer in zip(spans, steps, observers, strict=True):
            threads.submit(_run, step, _SpanOracle(span, events), observer)
        _serve(events, oracle, spans, done)
    take_over(observers)


@dataclass(frozen=True, slots=True)
class _Event:
    """A half asks for something, or has ended."""

    span: int
    asks: str = ""  # the name of a method of the oracle
    argument: Any = None
    answer: Future[Any] = field(default_factory=Future)
    report: Message | None = None
    error: Exception | None = None


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
    except Exception as error:
        oracle.events.put(_Event(oracle.span.index, error=error))


def _serve(
    events: "SimpleQueue[_Event]",
    oracle: Oracle,
    spans: Sequence[Span],
    done: Callable[[int, Message], None],
) -> None:
    """Answer the halves until all have ended."""
    errors: dict[int, Exception] = {}
    running, asking = len(spans), dict[int, _Event]()
    while running:
        event = events.get()
        if event.asks:
            asking[event.span] = event
        else:
            running -= 1
            if event.error is not None:
                errors[event.span] = event.error
            elif event.report is not None and not errors:
                done(event.span, event.report)
        if asking and len(asking) == running:
            _answer([asking[index] for index in sorted(asking)], oracle, spans, bool(errors))
            asking = {}
    if errors:
        raise errors[min(errors)]


def _answer(asking: Sequence[_Event], oracle: Oracle, spans: Sequence[Span], failed: bool) -> None:
    """Answer what the running halves ask for, or let them fail."""
    try:
        if failed:
            raise _OtherFailed
        answers = _answers(asking, oracle, spans)
    except Exception as error:
        for event in asking:
            event.answer.set_exception(error)
        return
    for event, answer in zip(asking, answers, strict=True):
        event.answer.set_result(answer)


class _OtherFailed(Exception):
    """Ends a half because that of another span has failed."""


def _answers(asking: Sequence[_Event], oracle: Oracle, spans: Sequence[Span]) -> list[Any]:
    what = asking[0].asks
    if len(asking) < len(spans) or any(event.asks != what for event in asking):
        raise ValueError(
            f"servers is {len(spans)}, and the method does not ask for the same of the model for "
            "every one of them: give servers: 1"
        )
    if what == "full":
        return [oracle.full()] * len(asking)
    if what == "sample":
        return [oracle.sample(asking[0].argument)] * len(asking)
    point = torch.cat([event.argument[0] for event in asking])
    gradient = oracle.gradient(point, asking[0].argument[1])
    return [gradient[span.entries] for span in spans]
