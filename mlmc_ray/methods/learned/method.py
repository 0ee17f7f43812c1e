"""The settings of learned gradient compression."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import EntryCount, check_count
from mlmc_ray.methods.base import Facts, Method
from mlmc_ray.methods.learned.autoencoder import num_weights
from mlmc_ray.methods.learned.server import LearnedServer
from mlmc_ray.methods.learned.worker import LearnedWorker


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedCompression(Method):
    """Dense rounds, rounds in which an autoencoder learns, and rounds in which it is used.

    Args:
        k: entries that a worker's vector keeps, or the fraction of them.
        dense_rounds: how long gradients are sent as they are.
        training_rounds: how long the autoencoder is trained.
        innovation: the share of the k entries that every worker sends itself when compressed.
        edge_layers: so many parameter tensors at either end of the model are never encoded: their
            largest entries are sent.
        learning_rate: of the autoencoder.
        similarity: weight of the loss that pulls the workers' codes together.
        fall_back: train again for ``training_rounds`` after a round in which the autoencoder lost
            more than the largest entries in as many bits would have.
    """

    k: EntryCount
    dense_rounds: int = 100
    training_rounds: int = 200
    innovation: float = 0.1
    edge_layers: int = 2
    learning_rate: float = 1e-3
    similarity: float = 0.5
    fall_back: bool = True

    facts: ClassVar[Facts] = Facts(
        compressor="none",
        uplink="d, then k, then innovation k with positions; the leader k positions and k/4 "
        "numbers of 16 bits",
        downlink="d and k positions, and the code when compressed",
        first="the weights of the autoencoder (d'), once, down",
        worker_memory="d + d'",
        server_memory="3 d'",
        guarantee="none: the error is measured every round",
        reference="Abrahamyan et al., 2021, arXiv:2103.08870",
    )

    def __post_init__(self) -> None:
        check_count("k", self.k)
        if self.dense_rounds < 0 or self.edge_layers < 0:
            raise ValueError(
                f"dense_rounds is {self.dense_rounds!r} and edge_layers is {self.edge_layers!r}: "
                "give 0 or more"
            )
        if self.training_rounds < 1:
            raise ValueError(
                f"training_rounds is {self.training_rounds!r}: an autoencoder that is not trained "
                "says nothing; give at least 1"
            )
        if not 0 < self.innovation < 1:
            raise ValueError(
                f"innovation is {self.innovation!r}: it is a share of the k entries, between 0 and "
                "1, such as 0.1"
            )
        if self.learning_rate <= 0 or self.similarity < 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate!r} and similarity is {self.similarity!r}: "
                "give a positive number, and one of at least 0"
            )

    def worker(self) -> "LearnedWorker":
        """Make the half of one worker."""
        return LearnedWorker(self)

    def server(self, parameters: Tensor) -> "LearnedServer":
        """Make the server's half."""
        return LearnedServer(self, parameters)

    def largest_payload(self, dim: int) -> int:
        """The autoencoder's weights may be more than the model's."""
        return max(dim, num_weights())
