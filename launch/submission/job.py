"""What is submitted: a command, the files that it needs, the processors and GPUs that it takes."""

import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launch.configuration.composition import compose
from launch.configuration.run_config import RunConfig, load_config, load_variants
from launch.run_directory import slug
from mlmc_ray.errors import ConfigError

EXCLUDES = (
    *(".git", "runs", "build", "dist", "*.egg-info", ".venv", "venv", ".tox", "__pycache__"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache"),
)
"""What is left behind of the working tree, in the syntax of .gitignore; Ray adds .gitignore's."""

_PACKAGES = ("mlmc_ray", "workers", "server", "launch")
_STOP_WAIT_S = "20"
"""Seconds from a job's SIGTERM to its SIGKILL: Ray's 3 are too few to pack what was written."""
_LONGEST_NAME = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A command line of ``mlmc-ray`` that a cluster is to run.

    Args:
        name: the run's, shown in Ray's dashboard.
        arguments: of ``mlmc-ray``; paths are relative to ``working_dir``.
        processors: that the cluster must have: one for every actor and for the server.
        gpus: that the cluster must have.
        working_dir: the files of the job, copied to every node.
        wheel: installed on every node before the job starts; None where ``working_dir`` holds the
            packages, or the nodes have them.
        environment: variables of all of the job's processes; Ray's dashboard shows them.
        num_cpus: processors reserved for the command itself; 0 lets it run on the head node.
        keep: directory on the cluster's shared file system in which results stay; None to bring
            them back.
        job_id: by default the name and eight random letters.

    Raises:
        ValueError: a value cannot be used.
    """

    name: str
    arguments: tuple[str, ...]
    processors: int
    working_dir: Path
    gpus: float = 0.0
    wheel: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    num_cpus: float = 0.0
    keep: str | None = None
    job_id: str = ""

    def __post_init__(self) -> None:
        if self.num_cpus < 0:
            raise ValueError(f"num_cpus is {self.num_cpus}: give 0 or more")
        if self.processors < 0:
            raise ValueError(f"processors is {self.processors}: give 0 or more")
        if self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}: give 0 or more")
        if self.keep is not None and not self.keep.startswith("/"):
            raise ValueError(
                f"keep is {self.keep!r}: give an absolute path, on a file system that the nodes "
                "share"
            )
        if not self.job_id:
            stem = slug(self.name).encode("ascii", "ignore").decode()[:_LONGEST_NAME].strip("-")
            object.__setattr__(self, "job_id", f"{stem or 'run'}-{secrets.token_hex(4)}")

    @property
    def entry_point(self) -> str:
        """The shell command that the cluster runs."""
        keep = [] if self.keep is None else ["--keep", self.keep]
        wrapper = ["python", "-m", "launch.submission.on_cluster", "--job", self.job_id, *keep]
        return shlex.join([*wrapper, "--", *self.arguments])

    @contextmanager
    def runtime_env(self) -> Iterator[dict[str, Any]]:
        """Yield Ray's description of files and variables; what it names exists meanwhile."""
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": _STOP_WAIT_S, **self.environment}
        described = {"excludes": list(EXCLUDES), "env_vars": variables}
        if self.wheel is None:
            yield {**described, "working_dir": str(self.working_dir)}
            return
        with tempfile.TemporaryDirectory() as staged:
            _stage(self.working_dir, self.wheel, Path(staged))
            installed = f"${{RAY_RUNTIME_ENV_CREATE_WORKING_DIR}}/{self.wheel.name}"
            yield {**described, "working_dir": staged, "pip": [installed]}


def job_of(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    compare: bool = False,
    wheel: Path | None = None,
    environment: Mapping[str, str] | None = None,
    num_cpus: float = 0.0,
    keep: str | None = None,
) -> Job:
    """Make the job of a configuration below the current directory, which travels with it.

    Args:
        config: YAML file; it and its own problem's files are read again on the cluster.
        overrides: ``a.b=c`` settings; ``address`` becomes the cluster's own.
        compare: run every entry of ``compare``.
        wheel: see ``Job``.
        environment: see ``Job``.
        num_cpus: see ``Job``.
        keep: see ``Job``.

    Raises:
        ConfigError: the configuration is wrong or lies elsewhere, or an argument is wrong.
        ProblemError: the problem cannot be imported.
    """
    overrides = [*overrides, "address=auto"]
    runs = load_variants(config, overrides) if compare else [load_config(config, overrides)]
    working_dir = Path.cwd().resolve()
    try:
        place = config.resolve().relative_to(working_dir)
    except ValueError:
        raise ConfigError(
            f"{config} is not below the current directory, {working_dir}, which is all that a job "
            "takes along: run from a directory that holds it"
        ) from None
    for directory in compose(config).directories:
        if not Path(directory).is_relative_to(working_dir):
            raise ConfigError(
                f"{config} extends a file in {directory}, which is not below {working_dir}: a job "
                "does not take it along"
            )
    if wheel is not None and not (wheel.is_file() and wheel.suffix == ".whl"):
        raise ConfigError(f"{wheel} is no wheel: make one with pip wheel --no-deps -w dist .")
    settings = [text for override in overrides for text in ("--set", override)]
    try:
        return Job(
            name=config.stem if compare else runs[0].name,
            arguments=("compare" if compare else "train", place.as_posix(), *settings),
            processors=max(map(processors_of, runs)),
            gpus=max(map(gpus_of, runs)),
            working_dir=working_dir,
            wheel=wheel,
            environment=environment or {},
            num_cpus=num_cpus,
            keep=keep,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def processors_of(config: RunConfig) -> int:
    """Return how many processors a cluster must have for a run: its hosts and servers."""
    if config.engine == "inline":
        return 0
    return _hosts_of(config) + config.servers


def gpus_of(config: RunConfig) -> float:
    """Return how many GPUs a cluster must have at least for a run: those that actors reserve."""
    if config.engine == "inline" or config.device != "cuda":
        return 0.0
    return _hosts_of(config) * (config.gpus_per_actor or 1.0)


def _hosts_of(config: RunConfig) -> int:
    """Return how many actors host workers; where it is left open, one does."""
    return config.num_hosts(config.actors or 1)


def _stage(working_dir: Path, wheel: Path, staged: Path) -> None:
    """Fill a directory with links to a working tree, less the packages that the wheel holds."""
    for path in working_dir.iterdir():
        if path.name not in (*_PACKAGES, *EXCLUDES):
            (staged / path.name).symlink_to(path)
    (staged / wheel.name).unlink(missing_ok=True)
    shutil.copy(wheel, staged / wheel.name)
