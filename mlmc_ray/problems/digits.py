"""Handwritten digits: 1,797 real images of 8 x 8 pixels, shipped with scikit-learn.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998; ``sklearn.datasets.load_digits`` holds its test part.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems.base import TensorShard, split_evenly

_NUM_TEST = 360
_CLASSES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Digits:
    """Classify digits with a small convolutional network (38,282 parameters).

    The last 360 images, by other writers than most of the first 1,437, are the test set. Shards
    are dealt uniformly.

    Args:
        batch_norm: normalise after each convolution.
    """

    batch_norm: bool = False

    def model(self) -> nn.Module:
        """Two convolutions, one pooling, two linear layers."""
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            *([nn.BatchNorm2d(16)] if self.batch_norm else []),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            *([nn.BatchNorm2d(32)] if self.batch_norm else []),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, _CLASSES),
        )

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross entropy."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Deal the training images uniformly."""
        images, labels = _digits()
        train = (images[:-_NUM_TEST], labels[:-_NUM_TEST])
        return split_evenly(train, worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Accuracy and mean cross entropy on the test images."""
        images, labels = (tensor[-_NUM_TEST:] for tensor in _digits())
        with torch.no_grad():
            scores = model(images)
        correct = (scores.argmax(dim=1) == labels).sum().item()
        loss = functional.cross_entropy(scores, labels).item()
        return {"accuracy": correct / len(labels), "loss": loss}


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """Return images, shape (1797, 1, 8, 8), standardised on the training part, and labels."""
    from sklearn.datasets import load_digits  # takes a second to import

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)
    train = images[:-_NUM_TEST]
    images = (images - train.mean()) / train.std()
    return images, torch.tensor(data.target)
