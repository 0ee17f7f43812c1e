"""One line of the report of ``mlmc-ray doctor``."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "hint", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        topic: what it belongs to.
        name: of what was looked for.
        state: "ok", "missing", or "hint" for what may surprise or only some runs need.
        text: what was found.
        remedy: the command that helps, or nothing.
        needed: whether mlmc_ray cannot run without it.

    Raises:
        ValueError: something is missing, and nothing is said to help.
    """

    topic: str
    name: str
    state: State
    text: str
    remedy: str = ""
    needed: bool = False

    def __post_init__(self) -> None:
        if self.state == "missing" and not self.remedy:
            raise ValueError(f"{self.name} is missing: say what would help, in remedy")
