"""Halves of several spans that step together: what they are answered, and how they end."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mlmc_ray.compressors import TopK
from mlmc_ray.flat import Layer
from mlmc_ray.methods import Oracle
from mlmc_ray.observing import Observer, observed, observing, take_over
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.spans import spans_of
from workers.together import Step, step_together

DIM = 7
SPANS = spans_of([Layer("x", (DIM,), 0, DIM)], 3)


class Recording:
    """An oracle of which the gradient is twice the point; ``asked`` is what it was asked for."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked: list[Any] = []
        self.error = error
        self.overwritten = torch.zeros(DIM)

    def sample(self, size: int | None = None) -> Any:
        self.asked.append(("sample", size))
        return object()

    def full(self) -> Any:
        self.asked.append("full")
        return object()

    def gradient(self, at: Tensor, batch: Any) -> Tensor:
        if self.error:
            raise self.error
        self.asked.append(at.tolist())
        return self.overwritten.copy_(2 * at)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def together(
    steps: list[Step], oracle: Oracle, done: Callable[[int, Message], None] | None = None
) -> dict[int, Message]:
    """Step in a thread of its own, which must end; return the reports in the order they came."""
    reports: dict[int, Message] = {}
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            step_together(steps, oracle, SPANS[: len(steps)], done or reports.__setitem__)
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "the halves never ended"
    if ended[0] is not None:
        raise ended[0]
    return reports


def points() -> list[Tensor]:
    return [torch.arange(span.start, span.stop, dtype=torch.float32) for span in SPANS]


def twice(index: int, delay_s: float = 0.0) -> Step:
    """A half that asks for two gradients, the second at the first, and reports their sum."""

    def step(oracle: Oracle) -> Message:
        batch = oracle.sample()
        first = oracle.gradient(points()[index], batch).clone()
        time.sleep(delay_s)
        return Message({"sum": DensePayload(first + oracle.gradient(first, batch))})

    return step


def once(index: int, then: Callable[[], None] = lambda: None) -> Step:
    def step(oracle: Oracle) -> Message:
        gradient = oracle.gradient(points()[index], oracle.sample())
        then()
        return Message({"gradient": DensePayload(gradient.clone())})

    return step


def failing(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_gradient_is_computed_once_at_the_points_of_all() -> None:
    oracle = Recording()
    reports = together([twice(0, 0.05), twice(1), twice(2, 0.02)], oracle)
    whole = torch.arange(DIM, dtype=torch.float32)
    assert oracle.asked == [("sample", None), whole.tolist(), (2 * whole).tolist()]
    sums = [reports[index].payloads["sum"].to_dense() for index in range(3)]
    assert torch.equal(torch.cat(sums), 6 * whole)


def test_a_half_alone_asks_the_oracle_itself() -> None:
    oracle = Recording()

    def step(own: Oracle) -> Message:
        assert own is oracle
        return Message({})

    assert list(together([step], oracle)) == [0]


def test_sizes_and_full_batches_are_asked_for_once() -> None:
    oracle = Recording()

    def step(own: Oracle) -> Message:
        own.full()
        return Message({}, {"batch": float(id(own.sample(3)))})

    reports = together([step] * 3, oracle)
    assert oracle.asked == ["full", ("sample", 3)]
    assert len({report.scalars["batch"] for report in reports.values()}) == 1


def test_a_report_leaves_while_others_still_compress() -> None:
    left = threading.Event()

    def done(index: int, report: Message) -> None:
        if index == 2:
            left.set()

    def wait() -> None:
        assert left.wait(10)

    together([once(0, wait), once(1, wait), once(2)], Recording(), done)


def test_halves_that_ask_for_nothing_report() -> None:
    oracle = Recording()
    assert set(together([lambda _: Message({})] * 3, oracle)) == {0, 1, 2}
    assert oracle.asked == []


# Observers.


def test_what_halves_compress_is_seen_in_the_order_of_the_spans() -> None:
    def compressing(index: int) -> Step:
        def step(oracle: Oracle) -> Message:
            time.sleep(0.05 * (2 - index))  # the last is the first to compress
            vector = torch.ones(SPANS[index].dim)
            payload = observed(TopK(k=1)).compress(vector, generator=torch.Generator())
            return Message({"change": payload})

        return step

    with observing() as seen:
        step_together([compressing(i) for i in range(3)], Recording(), SPANS, lambda *_: None)
    assert [one.dim for one in seen.compressions] == [span.dim for span in SPANS]
    assert seen.seconds > 0
    with observing(False) as unseen:
        step_together([compressing(i) for i in range(3)], Recording(), SPANS, lambda *_: None)
    assert unseen.compressions == []


def test_looking_at_the_same_time_takes_as_long_as_the_longest() -> None:
    with observing() as seen:
        take_over([Observer(seconds=1.0), Observer(seconds=3.0), Observer(seconds=2.0)])
    assert seen.seconds == 3.0


# Errors.


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("now"), SystemExit(3)])
def test_the_error_of_one_half_ends_all(index: int, error: BaseException) -> None:
    steps: list[Step] = [twice(i) for i in range(3)]
    steps[index] = once(index, failing(error))
    with pytest.raises(type(error)) as caught:
        together(steps, Recording())
    assert caught.value is error


def test_of_errors_of_several_halves_the_first_span_counts() -> None:
    """Whichever was first, and whether or not another half asks for more."""
    errors = [ValueError(str(index)) for index in range(3)]
    for delays in ((0.1, 0.0), (0.0, 0.1)):

        def late(delay_s: float, error: Exception) -> Callable[[], None]:
            def fail() -> None:
                time.sleep(delay_s)
                raise error

            return fail

        first, last = (late(d, e) for d, e in zip(delays, (errors[0], errors[2]), strict=True))
        with pytest.raises(ValueError, match="0"):
            together([once(0, first), twice(1), once(2, last)], Recording())


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("now")])
def test_an_error_of_the_gradient_ends_all(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        together([once(i) for i in range(3)], Recording(error))
    assert caught.value is error


def test_an_error_of_who_is_told_of_a_report_ends_all() -> None:
    def done(index: int, report: Message) -> None:
        raise OSError("cannot be encoded")

    def later(oracle: Oracle) -> Message:
        time.sleep(0.1)
        return twice(1)(oracle)

    steps: list[Step] = [lambda _: Message({}), later, twice(2)]
    with pytest.raises(OSError, match="cannot be encoded"):
        together(steps, Recording(), done)


def test_the_error_of_a_half_counts_more_than_one_about_a_report() -> None:
    def done(index: int, report: Message) -> None:
        raise OSError("the loss is not finite")

    def late() -> None:
        time.sleep(0.1)
        raise ValueError("where it is not")

    with pytest.raises(ValueError, match="where it is not"):
        together([once(0), once(1), once(2, late)], Recording(), done)


def sampling(size: int) -> Step:
    def step(oracle: Oracle) -> Message:
        oracle.sample(size)
        return Message({})

    return step


def asking_for_all(oracle: Oracle) -> Message:
    oracle.full()
    return Message({})


def with_own_batch(index: int) -> Step:
    def step(oracle: Oracle) -> Message:
        oracle.gradient(points()[index], object())
        return Message({})

    return step


DIFFERENT: dict[str, list[Step]] = {
    "one more gradient": [once(0), twice(1), once(2)],
    "no gradient": [once(0), lambda _: Message({}), once(2)],
    "another batch": [asking_for_all, once(1), once(2)],
    "another size": [sampling(3), sampling(3), sampling(4)],
    "batches of their own": [with_own_batch(index) for index in range(3)],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_halves_that_ask_for_different_things_are_told(what: str) -> None:
    text = "^servers is 3, and the method does not ask for the same of the model for every one of"
    with pytest.raises(ValueError, match=text):
        together(DIFFERENT[what], Recording())


def test_a_point_of_another_size_is_refused() -> None:
    def step(oracle: Oracle) -> Message:
        oracle.gradient(torch.ones(DIM), oracle.sample())
        return Message({})

    text = r"a point of shape \(7,\), and this span has 2 parameters"
    with pytest.raises(ValueError, match=text):
        together([once(0), once(1), step], Recording())
