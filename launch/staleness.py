"""How old the news are that reports answer, where workers are not waited for."""

from collections.abc import Iterable, Iterator

from mlmc_ray.ledger import Direction


class Staleness:
    """Follows a ledger in its order, and finds the news that every report answers.

    They are the latest before it to that worker: a worker has one report on its way at most.
    """

    def __init__(self) -> None:
        self._told_at: dict[int, int] = {}  # by worker, the round of its latest news

    def of(self, frames: Iterable[tuple[int, int, Direction]]) -> Iterator[tuple[int, int]]:
        """Yield the worker of every report, and how many rounds old its news are.

        Args:
            frames: round, worker and direction of each, in the order of the ledger.
        """
        for round_index, worker_id, direction in frames:
            if direction == "downlink":
                self._told_at[worker_id] = round_index
            elif worker_id in self._told_at:
                yield worker_id, round_index - self._told_at[worker_id]
