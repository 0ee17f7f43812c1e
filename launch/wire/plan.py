"""What is to be measured on the wire."""

from dataclasses import dataclass

from launch.configuration.run_config import RunConfig, load_config
from launch.lab.plan import MOST_NODES
from launch.pages.in_words import kind_of
from mlmc_ray.errors import ConfigError

_NEVER = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class WirePlan:
    """What is measured, and how.

    Args:
        config: YAML file of the run.
        overrides: ``a.b=c`` settings that win over it.
        hosts: nodes with an actor that hosts workers; the driver and every server have one more.
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

    def run(self) -> RunConfig:
        """Return the configuration as it is measured: on Ray, and without what has its own traffic.

        Raises:
            ConfigError, ProblemError: see ``load_config``; or the method does not run on Ray, or
                the lab would have too few workers or too many nodes.
        """
        self._check_method()
        placed = ["engine=ray", "placement=spread", f"actors={self.hosts}", "address=null"]
        placed += ["device=cpu", "gpus_per_actor=null", "clock=null"]
        quiet = ["callbacks=[]", "observe_every=null", f"evaluate_every={_NEVER}"]
        config = load_config(self.config, [*self.overrides, *placed, *quiet])
        if config.workers < self.hosts:
            raise ConfigError(
                f"--nodes is {self.hosts}, and workers is {config.workers}: give at most as many "
                "nodes as workers, or --set workers=..."
            )
        others = 1 + config.servers
        if self.hosts + others > MOST_NODES:
            raise ConfigError(
                f"--nodes is {self.hosts}, and driver and servers have {others} more: the lab has "
                f"at most {MOST_NODES}: give at most {MOST_NODES - others}"
            )
        return config

    def _check_method(self) -> None:
        """Refuse a method whose rounds are not those of the model."""
        on_ray = ("engine=ray", "clock=null", "arrivals=null")
        method = load_config(self.config, [*self.overrides, *on_ray]).method
        if method.asynchronous or method.timed:
            raise ConfigError(
                f"wire compares rounds with a model of them, and those of {kind_of(method)} depend "
                "on who is fast"
            )

    def notes(self) -> list[str]:
        """Return which settings of the configuration ``run`` sets aside, as a line if any."""
        given = load_config(self.config, self.overrides)
        aside = {
            "engine: inline": given.engine == "inline",
            "clock": given.clock is not None,
            "device: cuda": given.device == "cuda",
            "actors": given.actors not in (None, self.hosts),
            "address": given.address is not None,
            "callbacks": bool(given.callbacks),
        }
        named = ", ".join(name for name, is_set in aside.items() if is_set)
        return [f"set aside, as wire measures on Ray in a lab of its own: {named}"] if named else []
