"""Checks of settings that several methods share."""


def check_share(name: str, value: float | None, *, least: str = "above 0") -> None:
    """Refuse a share that is not in (0, 1], or in [0, 1] where ``least`` is "at least 0".

    Raises:
        ValueError: names the field and quotes the value.
    """
    if value is None or 0 < value <= 1 or (value == 0 and least == "at least 0"):
        return
    raise ValueError(
        f"{name} is {value!r}: give a number {least} and at most 1, or leave it out for the one of "
        "theory"
    )


def check_at_least_1(name: str, number: int | None, unit: str) -> None:
    """Refuse a number below 1; None is fine.

    Raises:
        ValueError: names the field and quotes the value.
    """
    if number is not None and number < 1:
        raise ValueError(f"{name} is {number!r}: give at least 1 {unit}")
