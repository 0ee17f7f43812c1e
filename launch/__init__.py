"""Running things: configuration, sessions, comparisons, the command line.

>>> from launch import Session
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig, load_config, load_variants
    from launch.session import Session

__all__ = ["RunConfig", "Session", "load_config", "load_variants"]


def __getattr__(name: str) -> Any:
    """Import on first use: torch takes a second, which ``mlmc-ray --help`` need not wait for."""
    if name == "Session":
        from launch.session import Session

        return Session
    if name in __all__:
        from launch.configuration import run_config

        return getattr(run_config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
