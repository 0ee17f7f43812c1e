"""What has been said in the last rounds, for workers that were not asked in them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Backlog(Generic[Item]):
    """One item a round, as long as all of them together are shorter than a full copy.

    Args:
        most_bytes: see the attribute.

    Attributes:
        most_bytes: of a full copy; may be changed.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._next = 0  # the round after the last one here
        self._items: list[tuple[Item, int]] = []  # with their bytes
        self._num_bytes = 0

    def add(self, round_index: int, item: Item, num_bytes: int) -> None:
        """Keep the item of a round, and forget the oldest ones where it gets too long."""
        if round_index != self._next:
            self._items, self._num_bytes = [], 0
        self._next = round_index + 1
        self._items.append((item, num_bytes))
        self._num_bytes += num_bytes
        while self._num_bytes >= self.most_bytes:
            self._num_bytes -= self._items.pop(0)[1]

    def state(self, written: Callable[[Item], Any]) -> dict[str, Any]:
        """Return a copy, for ``load``.

        Args:
            written: an item, as plain values.
        """
        items = [(written(item), num_bytes) for item, num_bytes in self._items]
        return {"most_bytes": self.most_bytes, "next": self._next, "items": items}

    def load(self, state: Mapping[str, Any], read: Callable[[Any], Item]) -> None:
        """Restore what ``state`` returned; ``read`` makes an item of what was written of it."""
        self.most_bytes, self._next = state["most_bytes"], state["next"]
        self._items = [(read(item), num_bytes) for item, num_bytes in state["items"]]
        self._num_bytes = sum(num_bytes for _, num_bytes in self._items)

    def of(self, first: int, last: int) -> Sequence[Item] | None:
        """Return the items of the rounds from ``first`` to ``last``; None unless all are here.

        From a round to the one before it there are none, so that nothing is missing.
        """
        if first == last + 1:
            return []
        if last != self._next - 1 or not last + 1 - len(self._items) <= first <= last:
            return None
        return [item for item, _ in self._items[len(self._items) - (last + 1 - first) :]]
