"""Gradients of a model in training, made once and kept in files."""

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from launch.benching.benched import Shapes
from launch.run_directory import writing
from mlmc_ray.compressors.base import check_positive, check_whole
from mlmc_ray.errors import ConfigError, ProblemError, one_line
from mlmc_ray.flat import FlatModel
from mlmc_ray.problems import (
    Digits,
    FashionMNIST,
    MovieReviews,
    Problem,
    Shard,
    initial_model,
)
from mlmc_ray.seeding import drawing, generator_for, seed_for

NETWORKS = ("digits", "perceptron", "cnn", "resnet18", "minilm")
"""``digits`` is the network of that problem and ``minilm`` that of ``MovieReviews``; the others
classify Fashion-MNIST."""
WITH_FILES = ("perceptron", "cnn", "resnet18")
"""Those whose data may lie in a directory; those of the others are installed."""
_KEPT_ON_THE_WAY = (0, 5, 60, 300)  # rounds, of a longer training


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingGradient:
    """The gradient of one batch after some rounds of plain SGD by one worker.

    Attributes:
        network: one of ``NETWORKS``.
        round_index: rounds before it, from 0.
        step_size: of SGD, positive.
        batch_size: examples a round, and of the gradient itself; from 1.
        seed: of the parameters and the batches.

    Raises:
        ValueError: a value is out of its range; quotes it.
    """

    network: str
    round_index: int
    step_size: float = 0.05
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network is {self.network!r}: give one of {list(NETWORKS)}")
        check_whole("round_index", self.round_index, 0)
        check_positive("step_size", self.step_size, "a positive number")
        check_whole("batch_size", self.batch_size, 1)

    def problem(self, data_dir: Path | None = None) -> Problem:
        """Return what is trained.

        Args:
            data_dir: holds Fashion-MNIST; see ``FashionMNIST``. Only for ``WITH_FILES``.
        """
        if self.network == "digits":
            return Digits()
        if self.network == "minilm":
            return MovieReviews()
        return FashionMNIST(network=self.network, data_dir=data_dir)  # type: ignore[arg-type]

    def file_name(self, round_index: int, data_dir: Path | None = None) -> str:
        """Return the name of the file that keeps a round's gradient, made of all settings.

        Args:
            round_index: of the gradient.
            data_dir: of ``problem``; a hash of the whole path stands for it.
        """
        place = "" if data_dir is None else f"-data{_short_hash(data_dir)}"
        return (
            f"{self.network}-round{round_index}-step{self.step_size!r}-batch{self.batch_size}-"
            f"seed{self.seed}{place}.npy"
        )


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.expanduser().resolve())).hexdigest()[:8]


def parsed(text: str, settings: Mapping[str, Any]) -> TrainingGradient:
    """Return the gradient that an option names as ``network:round``.

    Args:
        text: of the option.
        settings: other fields, where they are not the defaults.

    Raises:
        ConfigError: quotes the text and says what would do.
    """
    network, _, rounds = text.partition(":")
    if network not in NETWORKS or not rounds.isdecimal():
        raise ConfigError(
            f"--gradient {text}: give a network of {list(NETWORKS)} and a round, such as digits:60"
        )
    try:
        return TrainingGradient(network=network, round_index=int(rounds), **settings)
    except ValueError as error:
        raise ConfigError(f"--gradient {text}: {error}") from error


def default_cache() -> Path:
    """Return where gradients are kept: ``mlmc-ray/gradients`` in XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mlmc-ray" / "gradients"


def gradient_of(
    wanted: TrainingGradient, cache: Path, data_dir: Path | None, console: Console
) -> tuple[Tensor, Shapes]:
    """Return a gradient, shape (d,), float32, and the shapes of its layers; train if need be.

    Args:
        wanted: which gradient.
        cache: directory of the files; made where it is not there.
        data_dir: holds Fashion-MNIST; read only where there is no file yet.
        console: where the progress of training goes.

    Raises:
        ProblemError: the data are not there, training diverged, or the file is damaged.
        ConfigError: the directory cannot be written.
    """
    problem = wanted.problem(data_dir)
    model = initial_model(problem, wanted.seed)

    def path_of(round_index: int) -> Path:
        return cache / wanted.file_name(round_index, data_dir)

    path = path_of(wanted.round_index)
    if not path.exists():
        _train(wanted, problem, model, path_of, console)
    return _read(path, model.parameters.numel()), model.layer_shapes


def _train(
    wanted: TrainingGradient,
    problem: Problem,
    model: FlatModel,
    path_of: Callable[[int], Path],
    console: Console,
) -> None:
    """Keep the gradients of the wanted round and of some before it."""
    shard = problem.shard(0, 1, generator_for(wanted.seed, "shards"))
    kept = {wanted.round_index, *_KEPT_ON_THE_WAY}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"training {wanted.network}", total=wanted.round_index + 1)
        for round_index in range(wanted.round_index + 1):
            gradient = _gradient(wanted, problem, model, shard, round_index)
            if round_index in kept:
                _keep(gradient, path_of(round_index))
            model.parameters.add_(gradient, alpha=-wanted.step_size)
            progress.advance(task)


def _gradient(
    wanted: TrainingGradient, problem: Problem, model: FlatModel, shard: Shard, round_index: int
) -> Tensor:
    """Return the gradient of the round's batch, a view of the model's.

    Raises:
        ProblemError: the loss is no finite number any more.
    """
    model.clear_gradients()
    with drawing(seed_for(wanted.seed, round_index, "loss")):
        batch = shard.sample(wanted.batch_size, generator_for(wanted.seed, round_index, "batch"))
        loss = problem.loss(model.module, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    value = loss.item()
    if not math.isfinite(value):
        raise ProblemError(
            f"training {wanted.network} with step size {wanted.step_size!r}: the loss of round "
            f"{round_index} is {value}; give a smaller --step-size"
        )
    return model.collect_gradients()


def _keep(gradient: Tensor, path: Path) -> None:
    """Write a file that is there as a whole or not at all."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.save(file, gradient.numpy())
        unfinished.replace(path)


def _read(path: Path, dim: int) -> Tensor:
    try:
        values = np.load(path, allow_pickle=False)
        if values.shape != (dim,) or values.dtype != np.float32:
            raise ValueError(f"it holds {values.dtype} of shape {values.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise ProblemError(
            f"{path}: is no gradient of {dim:,} float32 values ({one_line(error)}); delete it, and "
            "it is made again"
        ) from error
    return torch.from_numpy(values)
