"""What is trained: a model, and the data of every worker.

The data are 178 wines, which come with scikit-learn (M. Forina et al., Wine, UCI Machine Learning
Repository, 1992): 13 measurements of each, and by which of three growers it was made. Put your own
into data.csv, numbers with the class in the last column, counted from 0, or change ``load``.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mlmc_ray.problems import TensorShard, split_evenly

Examples = tuple[Tensor, Tensor]
"""Features, shape (examples, features), and labels, shape (examples,)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Any class with these four methods can be trained; its fields are keys of the configuration.

    Args:
        data: a CSV file with one line of headings, in the directory of this one.
        hidden: width of the hidden layer.
    """

    data: str = "data.csv"
    hidden: int = 32

    def model(self) -> nn.Module:
        """Make the model; its parameters are set to the server's before every use."""
        features, labels = load(self.data)[0]
        classes = int(labels.max()) + 1
        return nn.Sequential(
            nn.Linear(features.shape[1], self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, classes),
        )

    def loss(self, model: nn.Module, batch: Examples) -> Tensor:
        """Return the mean loss on a batch, which is what the shard returns."""
        features, labels = batch
        return functional.cross_entropy(model(features), labels)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> TensorShard:
        """Return one worker's examples; the generator draws the same for every worker."""
        train, _ = load(self.data)
        return split_evenly(train, worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return what is worth watching; ``accuracy``, where there is one, is shown first."""
        _, (features, labels) = load(self.data)
        with torch.no_grad():
            scores = model(features)
        return {
            "accuracy": (scores.argmax(dim=1) == labels).float().mean().item(),
            "loss": functional.cross_entropy(scores, labels).item(),
        }


@lru_cache(maxsize=1)
def load(name: str) -> tuple[Examples, Examples]:
    """Return examples to train on, and every fifth line to test on, standardised."""
    table = read(name)
    features, labels = table[:, :-1], table[:, -1].long()
    test = torch.arange(len(table)) % 5 == 0
    train = features[~test]
    features = (features - train.mean(dim=0)) / (train.std(dim=0) + 1e-6)
    return (features[~test], labels[~test]), (features[test], labels[test])


def read(name: str) -> Tensor:
    """Return the lines of a file as numbers, shape (examples, columns), float32.

    Raises:
        ValueError: says what is wrong, and in which line.
    """
    text = Path(__file__).with_name(name).read_text(encoding="utf-8-sig")
    rows = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(rows) < 11 or "," not in rows[0][1]:
        raise ValueError(f"{name}: give headings, then 10 or more lines of numbers with commas")
    numbers, lines = zip(*rows[1:], strict=True)
    first = lines[0].count(",")
    for number, line in rows[1:]:
        if (got := line.count(",")) != first:
            raise ValueError(
                f"{name}: commas in line {number}: {got}, in line {numbers[0]}: {first}"
            )
    table = np.genfromtxt(lines, np.float32, delimiter=",", comments="\n", ndmin=2)
    for row, column in np.argwhere(~np.isfinite(table)):
        value = lines[row].split(",")[column]
        raise ValueError(
            f"{name}: line {numbers[row]}, column {column + 1}: {value!r} is no number"
        )
    classes = np.unique(table[:, -1]).tolist()
    if classes != list(range(len(classes))):
        raise ValueError(
            f"{name}: the last column is the class, 0, 1, 2 ...; it holds {classes[:5]}"
        )
    return torch.from_numpy(table)
