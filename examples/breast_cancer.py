"""A task of one's own: tell malignant from benign tumours with a small perceptron.

Train it with ``mlmc-ray train examples/breast_cancer.yaml``.

Data: 569 real cases with 30 measurements each (W. Wolberg, O. Mangasarian, N. Street,
W. Street, Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, 1995), shipped
with scikit-learn.
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_breast_cancer
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems import TensorShard, split_evenly

NUM_TEST = 114


@dataclass(frozen=True, kw_only=True)
class BreastCancer:
    """Any class with these four methods can be trained.

    Args:
        hidden: width of the hidden layer.
    """

    hidden: int = 64

    def model(self) -> nn.Module:
        """Make the model; its parameters are set to the server's before every use."""
        return nn.Sequential(nn.Linear(30, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 1))

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean loss on a batch: what a shard's ``sample`` returned."""
        features, labels = batch
        return functional.binary_cross_entropy_with_logits(model(features).squeeze(1), labels)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Return one worker's data; all workers see the same draws, and cut them differently."""
        features, labels = _data()
        train = (features[:-NUM_TEST], labels[:-NUM_TEST])
        return split_evenly(train, worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return whatever is worth watching; ``accuracy``, where there is one, is shown first."""
        features, labels = (tensor[-NUM_TEST:] for tensor in _data())
        with torch.no_grad():
            scores = model(features).squeeze(1)
        correct = ((scores > 0) == (labels > 0.5)).float().mean().item()
        loss = functional.binary_cross_entropy_with_logits(scores, labels).item()
        return {"accuracy": correct, "loss": loss}


def _data() -> tuple[Tensor, Tensor]:
    """Return standardised measurements, shape (569, 30), and labels."""
    data = load_breast_cancer()
    features = torch.tensor(data.data, dtype=torch.float32)
    train = features[:-NUM_TEST]
    features = (features - train.mean(dim=0)) / train.std(dim=0)
    return features, torch.tensor(data.target, dtype=torch.float32)
