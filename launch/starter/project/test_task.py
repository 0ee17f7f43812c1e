"""The task trains: run ``pytest``."""

from pathlib import Path

import torch

from launch import Session, load_config, load_variants

HERE = Path(__file__).parent


def test_the_loss_falls() -> None:
    """A few rounds in this process."""
    config = load_config(HERE / "config.yaml", ["engine=inline", "rounds=20", "evaluate_every=20"])
    with Session(config) as session:
        session.run()
        before, after = session.metrics[0], session.metrics[-1]
    assert after["test_loss"] < before["test_loss"]


def test_every_parameter_has_a_gradient() -> None:
    """One without would stay as it is."""
    task = load_config(HERE / "config.yaml").problem.load()
    model = task.model()
    names, parameters = zip(*model.named_parameters(), strict=True)
    batch = task.shard(0, 1, torch.Generator().manual_seed(0)).full()
    gradients = torch.autograd.grad(task.loss(model, batch), parameters, allow_unused=True)
    unused = [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]
    assert unused == []


def test_the_runs_to_compare_have_names_of_their_own() -> None:
    """Each is right, or reading it is an error."""
    names = [run.name for run in load_variants(HERE / "compare.yaml")]
    assert len(names) == len(set(names)) > 1
