"""The Fashion-MNIST problem with a perceptron of any size."""

from dataclasses import dataclass

from torch import nn

from mlmc_ray.problems import FashionMNIST


@dataclass(frozen=True, kw_only=True, slots=True)
class WideFashion(FashionMNIST):
    """Fashion-MNIST, classified by a perceptron with one hidden layer of ``hidden`` units.

    It has ``795 hidden + 10`` parameters.
    """

    hidden: int

    def model(self) -> nn.Module:
        """Two linear layers."""
        pixels = self.channels * self.side**2
        return nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10)
        )
