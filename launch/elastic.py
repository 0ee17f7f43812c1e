"""How many workers a run has, where that follows the nodes of the cluster."""

import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

_LOOK_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Elastic:
    """One worker for each processor that the servers leave, within bounds.

    Args:
        least: workers that there are at any time.
        most: workers that there never are more than.
    """

    least: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=1)]

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ValueError(
                f"most is {self.most} and least is {self.least}: give most at least as much"
            )

    def wanted(self, room: int) -> int:
        """Return how many workers there should be where there is room for so many hosts."""
        return min(self.most, max(self.least, room))


class Lookout:
    """Says when it is time to look at the nodes again: rarely, as that asks the head node.

    Attributes:
        refused: the number of workers that could not be had last.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + _LOOK_EVERY_S
        self.refused: int | None = None

    def refuse(self, workers: int) -> None:
        """Note a number of workers that could not be had, and is not to be tried again."""
        self.refused = workers

    def due(self) -> bool:
        """Return whether to look now."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _LOOK_EVERY_S
        return True
