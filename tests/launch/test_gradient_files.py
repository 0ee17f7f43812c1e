"""The files that keep gradients of a model in training."""

import io
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from launch.benching.gradients import TrainingGradient, gradient_of

WANTED = TrainingGradient(network="digits", round_index=0)


def test_the_name_of_a_file_has_the_place_of_the_data(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    names = {WANTED.file_name(0, place) for place in (None, one, other)}
    assert len(names) == 3
    assert WANTED.file_name(0, one) == WANTED.file_name(0, other / ".." / "one")


def test_other_data_have_gradients_of_their_own(tmp_path: Path) -> None:
    kept, data = tmp_path / "kept", tmp_path / "data"
    silent = Console(file=io.StringIO())
    gradient, _ = gradient_of(WANTED, kept, data, silent)
    path = kept / WANTED.file_name(0, data)
    assert list(kept.iterdir()) == [path]
    np.save(path, 2 * gradient.numpy())
    torch.testing.assert_close(gradient_of(WANTED, kept, data, silent)[0], 2 * gradient)
    torch.testing.assert_close(gradient_of(WANTED, kept, None, silent)[0], gradient)
