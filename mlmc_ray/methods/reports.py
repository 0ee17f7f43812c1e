"""Payloads in messages: one that is missing or of another size is refused; averages of reports."""

from collections.abc import Mapping

from torch import Tensor

from mlmc_ray.payloads import Message, Payload
from mlmc_ray.payloads.plain import sum_payloads


def payload_of(news: Message, name: str, dim: int | None = None) -> Payload:
    """Return the payload of that name of the server's news.

    Args:
        news: what a worker got.
        name: which payload.
        dim: how many entries it is to have; None for any, where the oracle refuses another size.

    Raises:
        ValueError: the news lacks it, or it is of another size; names the payload.
    """
    return _fitting(news, name, dim, "the server's news")


def payloads_of(reports: Mapping[int, Message], name: str, dim: int) -> dict[int, Payload]:
    """Return the payload of that name of every report, in worker order.

    Raises:
        ValueError: a report lacks it, or it is of another size; names the worker.
    """
    return {
        worker_id: _fitting(reports[worker_id], name, dim, f"report of worker {worker_id}")
        for worker_id in sorted(reports)
    }


def add_average(
    accumulator: Tensor, reports: Mapping[int, Message], name: str, among: int | None = None
) -> None:
    """Add the average over the reports of their payload ``name``, in worker order.

    Args:
        accumulator: shape (d,), modified in place.
        reports: by worker.
        name: which payload of each message.
        among: divide the sum by this number; by default by the number of reports.

    Raises:
        ValueError: a report does not fit; nothing has been added.
    """
    weight = _weight(reports, among)
    for payload in payloads_of(reports, name, accumulator.numel()).values():
        payload.add_to(accumulator, weight=weight)


def set_to_average(
    accumulator: Tensor, reports: Mapping[int, Message], name: str, among: int | None = None
) -> None:
    """Set the accumulator to zero, then do as ``add_average``.

    It is quicker where all payloads are of indices and values.

    Raises:
        ValueError: a report does not fit; nothing has been changed.
    """
    payloads = payloads_of(reports, name, accumulator.numel()).values()
    sum_payloads(accumulator, list(payloads), _weight(reports, among))


def _weight(reports: Mapping[int, Message], among: int | None) -> float:
    return 1 / (among or max(1, len(reports)))


def _fitting(message: Message, name: str, dim: int | None, source: str) -> Payload:
    payload = message.payloads.get(name)
    if payload is None:
        raise ValueError(f"{source} lacks {name!r}; server and workers must run the same method")
    if dim is not None and payload.dim != dim:
        raise ValueError(
            f"{source}: {name} has {payload.dim} entries, the model here has {dim}; server and "
            "workers must run the same problem"
        )
    return payload
