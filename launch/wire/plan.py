"""What is to be measured on the wire."""

from dataclasses import dataclass

from launch.configuration.run_config import RunConfig, load_config
from mlmc_ray.errors import ConfigError

_NEVER = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class WirePlan:
    """What is measured, and how.

    Args:
        config: YAML file of the run.
        overrides: ``a.b=c`` settings that win over it.
        hosts: nodes with an actor that hosts workers; the server has one more.
        rounds: that are measured.
        warm_up: rounds before, in which connections are opened.
        idle_s: seconds between them, to see what Ray sends while nothing runs.
        rate: of every link, in bytes a second; None for no limit.

    Raises:
        ConfigError: a number is out of range.
    """

    config: str
    overrides: tuple[str, ...] = ()
    hosts: int = 4
    rounds: int = 200
    warm_up: int = 5
    idle_s: float = 6.0
    rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("hosts", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: give at least 1")

    @property
    def nodes(self) -> int:
        """Nodes of the lab: the driver's, the server's, and the hosts'."""
        return self.hosts + 2

    def run(self) -> RunConfig:
        """Return the configuration as it is measured: on Ray, and without what has its own traffic.

        Raises:
            ConfigError, ProblemError: see ``load_config``.
        """
        placed = ("engine=ray", "placement=spread", f"actors={self.hosts}", "address=null")
        quiet = ("clock=null", "callbacks=[]", "observe_every=null", f"evaluate_every={_NEVER}")
        config = load_config(self.config, [*self.overrides, *placed, *quiet])
        if config.workers < self.hosts:
            raise ConfigError(
                f"nodes is {self.hosts}, and workers is {config.workers}: give at most as many "
                "nodes as workers, or --set workers=..."
            )
        return config
