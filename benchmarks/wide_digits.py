"""The digits problem with a perceptron of any size, for measuring speed."""

from dataclasses import dataclass

from torch import nn

from mlmc_ray.problems import Digits


@dataclass(frozen=True, kw_only=True, slots=True)
class WideDigits(Digits):
    """Digits, classified by a perceptron with two hidden layers of ``width`` units.

    It has ``width**2 + 76 width + 10`` parameters.
    """

    width: int

    def model(self) -> nn.Module:
        """Three linear layers."""
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
            nn.Linear(self.width, 10),
        )
