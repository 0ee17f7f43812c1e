"""Whether a method fits the model and the number of workers, before the first round."""

from dataclasses import dataclass
from typing import Any, get_type_hints

from launch.configuration.cutting import checked_spans
from launch.configuration.run_config import RunConfig
from launch.pages.in_words import kind_of
from mlmc_ray.compressors import EntryCount, Identity, SegmentCount
from mlmc_ray.compressors.base import count_of
from mlmc_ray.downlinks import DeltaDownlink, RelayDownlink
from mlmc_ray.errors import ConfigError
from mlmc_ray.flat import FlatModel
from mlmc_ray.methods import (
    DataParallelSGD,
    LearnedCompression,
    LocalSGD,
    Method,
    PartialParticipation,
    Scaffnew,
)
from mlmc_ray.optimizers import Adam, AdamW, ProximalSGD
from workers.device import why_no_gpu


def check_fit(config: RunConfig, model: FlatModel) -> None:
    """Refuse settings that ask for more than there is.

    Raises:
        ConfigError: names the setting and says how much there is.
    """
    _check_device(config)
    dim = min(span.dim for span in checked_spans(config, model))
    most = _Most(dim=dim, servers=config.servers, workers=config.workers)
    _check_counts(config.method, most, "method")
    _check_counts(config.downlink, most, "downlink")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Most:
    """What settings may ask for: entries of the smallest span, servers and workers."""

    dim: int
    servers: int
    workers: int

    @property
    def holder(self) -> str:
        """Who has so many parameters."""
        if self.servers == 1:
            return "the model"
        return f"the smallest span of the {self.servers} servers"


def _check_device(config: RunConfig) -> None:
    """Refuse a GPU that this process lacks; on Ray, every host sees for itself."""
    if config.engine == "inline" and config.device == "cuda" and (reason := why_no_gpu()):
        raise ConfigError(
            f"device is cuda, and torch finds no GPU here: {reason}, or give device: cpu"
        )


def notes_on(config: RunConfig) -> list[str]:
    """Return what is allowed and hardly meant, a line each."""
    return [
        *_without_penalty(config),
        *_never_compressing(config),
        *_idle_actors(config),
        *_moving_all(config),
        *_relaying_much(config),
        *_local_steps_staying(config),
    ]


def _without_penalty(config: RunConfig) -> list[str]:
    optimizer, method = config.optimizer, config.method
    proximal = isinstance(optimizer, ProximalSGD) and (optimizer.l1 or optimizer.l2)
    if not proximal and not (isinstance(method, Scaffnew) and method.l1):
        return []
    terms = "the l1 and l2 terms" if proximal else "the l1 term"
    return [
        f"gap and the problem's other measures leave {terms} out: they need not tend to the "
        "problem's own optimum"
    ]


def _never_compressing(config: RunConfig) -> list[str]:
    method = config.method
    if not isinstance(method, LearnedCompression):
        return []
    first = method.dense_rounds + method.training_rounds
    if config.rounds > first:
        return []
    return [
        f"nothing will be compressed: rounds is {config.rounds}, and the first {first} are dense "
        f"({method.dense_rounds}) or train the autoencoder ({method.training_rounds}); lower "
        "method.dense_rounds and method.training_rounds, or run more"
    ]


def _idle_actors(config: RunConfig) -> list[str]:
    if config.engine == "inline" or (config.actors or 0) <= config.workers:
        return []
    return [
        f"actors is {config.actors}, and there are {config.workers} workers: {config.workers} "
        "processes host them"
    ]


def _moving_all(config: RunConfig) -> list[str]:
    """Say of downlink delta that its frames are long, where every step moves every entry."""
    if not isinstance(config.downlink, DeltaDownlink):
        return []
    optimizer, method = config.optimizer, _inner(config.method)
    momentum = getattr(optimizer, "momentum", 0.0)
    moving = {
        "an optimizer with momentum": momentum or isinstance(optimizer, Adam | AdamW),
        "weight decay": getattr(optimizer, "weight_decay", 0.0),
        "the proximal step": isinstance(optimizer, ProximalSGD) and (optimizer.l1 or optimizer.l2),
        "uncompressed messages": _is_dense(method),
        f"the memory of {kind_of(method)}": "d" in method.facts.server_memory.split(),
    }
    return [
        f"downlink delta will save little: with {what} every step moves every entry, or all that "
        "were ever sent, and frames come to be as long as those of full; give downlink: relay, "
        "half or full"
        for what, moves in moving.items()
        if moves
    ][:1]


def _relaying_much(config: RunConfig) -> list[str]:
    """Say of downlink relay that its frames are longer than full ones, where they must be."""
    if not isinstance(config.downlink, RelayDownlink) or not _is_dense(_inner(config.method)):
        return []
    return [
        "downlink relay will cost more than full: reports are not compressed, so that those of a "
        "round are at least as long as the parameters, and full copies are sent, with all that "
        "optimizer and method remember, three times as long with Adam; give downlink: full or half"
    ]


def _local_steps_staying(config: RunConfig) -> list[str]:
    """Say of a schedule that it leaves the steps of workers alone."""
    method = _inner(config.method)
    if config.schedule is None or not isinstance(method, LocalSGD):
        return []
    return [
        "schedule is of the server's step alone: workers keep taking steps of local_step_size "
        f"{method.local_step_size:g}"
    ]


def _inner(method: Method) -> Method:
    while isinstance(method, PartialParticipation):
        method = method.method
    return method


def _is_dense(method: Method) -> bool:
    """Return whether every report is of all entries, as they are."""
    exact = isinstance(getattr(method, "compressor", None), Identity)
    return exact or isinstance(method, DataParallelSGD | Scaffnew)


def _check_counts(value: Any, most: _Most, place: str) -> None:
    dim, num_workers = most.dim, most.workers
    for name, hint in get_type_hints(type(value), include_extras=True).items():
        field = getattr(value, name)
        if hint == EntryCount and field > dim:
            raise ConfigError(
                f"{place}.{name} is {field}, and {most.holder} has {dim} parameters: give at most "
                "that many, or a fraction such as 0.01"
            )
        if hint == SegmentCount:
            segments = -(-dim // count_of(value.segment_size, dim))
            if field > segments:
                raise ConfigError(
                    f"{place}.{name} is {field}, and {dim} parameters are {segments} segments of "
                    f"segment_size {value.segment_size}: give at most that many"
                )
        if name in ("participants", "senders") and (field or 0) > num_workers:
            raise ConfigError(
                f"{place}.{name} is {field}, and there are {num_workers} workers: give at most "
                "that many"
            )
        is_list = name in ("compute_s", "message_s") and isinstance(field, tuple)
        if is_list and len(field) != num_workers:
            raise ConfigError(
                f"{place}.{name} has {len(field)} numbers, and there are {num_workers} workers: "
                "give one for each, or one number for all"
            )
        if hasattr(field, "__dataclass_fields__"):
            _check_counts(field, most, f"{place}.{name}")
