"""What has been said in the last rounds, for as long as it is shorter than a full copy."""

from mlmc_ray.downlinks.backlog import Backlog


def backlog_of(*sizes: int, most_bytes: int = 10, first: int = 0) -> Backlog[str]:
    backlog = Backlog[str](most_bytes)
    for round_index, size in enumerate(sizes, start=first):
        backlog.add(round_index, f"round {round_index}", size)
    return backlog


def test_the_rounds_asked_for_are_returned_in_order() -> None:
    backlog = backlog_of(1, 1, 1)
    assert backlog.of(0, 2) == ["round 0", "round 1", "round 2"]
    assert backlog.of(1, 2) == ["round 1", "round 2"]
    assert backlog.of(2, 2) == ["round 2"]


def test_only_rounds_up_to_the_last_can_be_asked_for() -> None:
    backlog = backlog_of(1, 1, 1)
    assert backlog.of(0, 1) is None
    assert backlog.of(0, 3) is None
    assert backlog.of(-1, 2) is None
    assert Backlog[str](10).of(0, 0) is None


def test_nothing_is_missing_from_a_round_to_the_one_before_it() -> None:
    assert backlog_of(1, 1, 1).of(3, 2) == []
    assert Backlog[str](10).of(0, -1) == []
    assert Backlog[str](10).of(1, 0) == []


def test_old_rounds_are_forgotten_where_all_would_be_as_long_as_a_full_copy() -> None:
    backlog = backlog_of(4, 4, 1)
    assert backlog.of(0, 2) is not None
    backlog.add(3, "round 3", 1)  # 10 in all, as a full copy
    assert backlog.of(0, 3) is None
    assert backlog.of(1, 3) == ["round 1", "round 2", "round 3"]


def test_a_round_as_long_as_a_full_copy_is_forgotten_with_all_before() -> None:
    backlog = backlog_of(1, 10)
    assert backlog.of(0, 1) is None
    assert backlog.of(1, 1) is None
    backlog.add(2, "round 2", 9)
    assert backlog.of(1, 2) is None
    assert backlog.of(2, 2) == ["round 2"]


def test_after_a_gap_it_begins_anew() -> None:
    backlog = backlog_of(1, 1)
    backlog.add(5, "round 5", 1)
    assert backlog.of(1, 5) is None
    assert backlog.of(5, 5) == ["round 5"]
    assert backlog_of(1, 1, first=7).of(7, 8) == ["round 7", "round 8"]


def test_a_state_holds_all_of_it() -> None:
    backlog, again = backlog_of(4, 4, 1), Backlog[str](99)
    again.load(backlog.state(lambda item: item.encode()), lambda item: str(item, "utf-8"))
    assert again.most_bytes == backlog.most_bytes
    for one in (backlog, again):
        assert one.of(0, 2) == ["round 0", "round 1", "round 2"]
        one.add(3, "round 3", 1)
        assert one.of(0, 3) is None
        assert one.of(1, 3) == ["round 1", "round 2", "round 3"]
