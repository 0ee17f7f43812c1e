"""Runs in Weights & Biases: on its server, or in files without an account."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from launch.callbacks.base import Callback
from launch.callbacks.numbers import levels_of, numbers_of, numbers_so_far
from launch.callbacks.places import package
from launch.metrics import Metrics
from launch.run_directory import slug
from mlmc_ray.rounds import RoundResult

if TYPE_CHECKING:
    from launch.configuration.run_config import RunConfig
    from launch.session import Session

_KIND = "wandb"


@dataclass(frozen=True, kw_only=True, slots=True)
class WandB(Callback):
    """Log to Weights & Biases: the configuration, the numbers of every round, levels drawn.

    Its configuration is always that which is in force, also after a change.

    Args:
        project: its name.
        entity: the user or team it belongs to; by default the account's own.
        mode: "online", or "offline" for files that ``wandb sync`` sends later; by default
            WANDB_MODE, or online.
        directory: where the files go; by default the run directory, or the current one without it.
        artifacts: store the files of the run directory too, at the end.
    """

    project: str = "mlmc-ray"
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    directory: str | None = None
    artifacts: bool = False

    def __post_init__(self) -> None:
        if not self.project.strip():
            raise ValueError(f"project: got {self.project!r}: give it a name")

    def check(self, config: "RunConfig") -> None:
        """Refuse to run without the package.

        Raises:
            ConfigError: it is not installed.
        """
        package(_KIND, _KIND)

    def fresh(self) -> Callback:
        """Return a client of one run."""
        return _Run(self)


class _Run(Callback):
    def __init__(self, settings: WandB) -> None:
        self._settings = settings
        self._run: Any = None

    def on_start(self, session: "Session") -> None:
        wandb, settings = package(_KIND, _KIND), self._settings
        place = Path(settings.directory or session.directory or ".")
        place.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=settings.mode,
            dir=str(place),
            name=session.config.name,
            config=session.config.to_mapping(),
            reinit="create_new",  # sessions of one process may run side by side
            settings=wandb.Settings(silent=True, console="off"),
        )
        for round_index, numbers in numbers_so_far(session):
            self._run.log(numbers, step=round_index)

    def on_round(self, session: "Session", metrics: Metrics, result: RoundResult) -> None:
        logged: dict[str, Any] = dict(numbers_of(metrics, session.metrics[-2]))
        if levels := levels_of(result):
            logged["levels"] = package(_KIND, _KIND).Histogram(levels)
        self._run.log(logged, step=metrics["round"])

    def on_change(self, session: "Session", changed: Mapping[str, Any]) -> None:
        self._run.config.update(session.config.to_mapping(), allow_val_change=True)

    def on_end(self, session: "Session", error: BaseException | None) -> None:
        try:
            if self._settings.artifacts and session.directory is not None:
                self._store(session.directory, session.config.name)
        finally:
            self._run.finish(exit_code=1 if error else 0)

    def _store(self, directory: Path, name: str) -> None:
        artifact = package(_KIND, _KIND).Artifact(slug(name), type="run-directory")
        for path in sorted(directory.iterdir()):
            if path.is_file():
                artifact.add_file(str(path))
        self._run.log_artifact(artifact)
