"""Scalars and histograms for TensorBoard."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from launch.callbacks.base import Callback
from launch.callbacks.numbers import levels_of, numbers_of, numbers_so_far
from launch.callbacks.places import directory_of, package
from launch.metrics import Metrics
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.session import Session

_KIND = "tensorboard"
_MODULE = "torch.utils.tensorboard"
_BYTES = ("train_loss", "relative_error")  # besides the problem's own measures


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorBoard(Callback):
    """Write what TensorBoard shows: ``tensorboard --logdir runs``.

    All numbers of a round by ``round/``; losses, errors and the problem's measures also by
    ``total_bytes/``, where the step is the bytes that have crossed in both directions; a histogram
    of the levels drawn in observed rounds; the configuration as text, and again when it changes,
    with what has changed.

    Args:
        directory: below it every run has a directory of its own; by default ``tensorboard`` in the
            run directory, or ``runs/tensorboard`` without one.
    """

    directory: str | None = None

    def check(self, config: "RunConfig") -> None:
        """Refuse to run without TensorBoard.

        Raises:
            ConfigError: it is not installed.
        """
        package(_MODULE, _KIND)

    def fresh(self) -> Callback:
        """Return a writer of one run."""
        return _Writer(self.directory)


class _Writer(Callback):
    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._writer: Any = None

    def on_start(self, session: "Session") -> None:
        name = session.config.name
        if self._directory is not None:
            place = directory_of(self._directory, name)
        elif session.directory is not None:
            place = session.directory / _KIND
        else:
            place = directory_of(f"runs/{_KIND}", name)
        self._writer = package(_MODULE, _KIND).SummaryWriter(str(place))
        self._write_text("config", session.config.to_mapping(), 0)
        for round_index, numbers in numbers_so_far(session):
            self._write(round_index, numbers)

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        round_index = metrics["round"]
        self._write(round_index, numbers_of(metrics, session.metrics[-2]))
        if levels := levels_of(result):
            bins = [level + 0.5 for level in range(max(levels) + 1)]
            self._writer.add_histogram("levels", _as_array(levels), round_index, bins=bins)

    def on_change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        for name, value in {"config": session.config.to_mapping(), "change": changed}.items():
            self._write_text(name, value, session.round_index)

    def on_end(self, session: "Session", error: BaseException | None) -> None:
        self._writer.close()

    def _write(self, round_index: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(f"round/{name}", value, round_index)
            if name in _BYTES or name.startswith("test_"):
                sent = int(numbers["total_bytes"])
                self._writer.add_scalar(f"total_bytes/{name}", value, sent)

    def _write_text(self, name: str, value: Mapping[str, Any], round_index: int) -> None:
        text = yaml.safe_dump(dict(value), sort_keys=False)
        lines = "\n".join(f"    {line}" for line in text.splitlines())
        self._writer.add_text(name, lines, round_index)


def _as_array(levels: list[int]) -> Any:
    import numpy as np

    return np.array(levels)
