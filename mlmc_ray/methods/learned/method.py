"""The settings of learned gradient compression."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mlmc_ray.compressors.base import (
    EntryCount,
    check_count,
    check_positive,
    check_whole,
    is_number,
)
from mlmc_ray.methods.base import Facts, Method
from mlmc_ray.methods.learned.autoencoder import num_weights
from mlmc_ray.methods.learned.server import LearnedServer
from mlmc_ray.methods.learned.worker import LearnedWorker


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnedCompression(Method):
    """Dense rounds, rounds in which an autoencoder learns, and rounds in which it is used.

    At first all send their gradients. Later worker i adds its gradient to an error, v_i = e_i +
    gradient, and a round has two exchanges. In the first the leader, another worker each round,

        leader: send the positions P of the k largest entries of v; when compressed also E(v[P])

    with the encoder E, and the server passes it on. In the second all workers answer,

        while it learns: send s_i = v_i[P]
        when compressed: send r_i, the largest entries of v_i[P];  s_i = D(E(v[P]), r_i)
        e_i <- v_i, less s_i at P;  g = average of the s_i at P

    where the autoencoder E and D is trained by the server on the v_i[P], and sent to all once it is
    to be used. All vectors are scaled to a largest magnitude of 1 before they are encoded.

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

    References:
        Abrahamyan, Chen, Bekoulis and Deligiannis, 2021, arXiv:2103.08870.
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
        downlink="d and k positions, and the code when compressed; the weights of the autoencoder "
        "(d') whenever it has been trained",
        news=("parameters", "phase", "leader", "positions", "weights", "code"),
        reports=(
            "gradient",
            "positions",
            "values",
            "code",
            "innovation",
            "scale",
            "lost",
            "alternative",
        ),
        worker_memory="d + d'",
        server_memory="3 d'",
        guarantee="none: the error is measured every round",
        reference="Abrahamyan et al., 2021, arXiv:2103.08870",
    )

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_whole("dense_rounds", self.dense_rounds, 0)
        check_whole("edge_layers", self.edge_layers, 0)
        advice = ": an autoencoder that is not trained says nothing"
        check_whole("training_rounds", self.training_rounds, 1, advice=advice)
        if not (is_number(self.innovation) and 0 < self.innovation < 1):
            raise ValueError(
                f"innovation is {self.innovation!r}: it is a share of the k entries, between 0 and "
                "1, such as 0.1"
            )
        check_positive("learning_rate", self.learning_rate)
        if self.similarity != 0:
            check_positive("similarity", self.similarity, "a positive number, or 0")

    def worker(self) -> "LearnedWorker":
        """Make the half of one worker."""
        return LearnedWorker(self)

    def server(self, parameters: Tensor) -> "LearnedServer":
        """Make the server's half."""
        return LearnedServer(self, parameters)

    def largest_payload(self, dim: int) -> int:
        """The autoencoder's weights may be more than the model's."""
        return max(dim, num_weights())
