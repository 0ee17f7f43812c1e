"""The configuration of a run: YAML in, validated dataclasses out."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from launch.callbacks import Callback
from launch.checkpoints.settings import Checkpoints
from launch.configuration.build import build, describe
from launch.configuration.catalogue import KINDS
from launch.configuration.changed_name import changed_name
from launch.configuration.composition import expanded, merged
from launch.configuration.fields import type_hints
from launch.configuration.source import check_stands_alone, parsed, read_source
from launch.configuration.yaml_text import escaped
from launch.elastic import Elastic
from launch.engines.clock import Clock
from launch.pages.in_words import in_words, kind_of
from mlmc_ray.downlinks import FULL, Downlink, FullDownlink, HalfDownlink, RelayDownlink
from mlmc_ray.errors import ConfigError
from mlmc_ray.methods import Method
from mlmc_ray.optimizers import Optimizer, resolved
from mlmc_ray.problems import ProblemSource
from mlmc_ray.quorum import Quorum
from mlmc_ray.schedules import Schedule, StepSizes
from workers.gradients import Precision

WITHOUT_KIND: dict[str, type[Any]] = {
    "quorum": Quorum,
    "elastic": Elastic,
    "clock": Clock,
    "checkpoints": Checkpoints,
}
"""Keys whose value is a mapping of the fields of one class."""

AtLeastOne = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One run.

    Args:
        problem: what is trained.
        method: how workers and server talk.
        optimizer: how the server steps; None for a method that moves the parameters itself.
        schedule: how the optimizer's step size changes over the rounds; by default it stays.
        clip_norm: an estimate that is longer is shortened to this norm before the optimizer's step.
        downlink: how the parameters get to the workers.
        servers: the parameters are cut into so many spans of nearly the same size, each with a
            server of its own: an actor, which Ray places like the others.
        name: shown in tables and figures, and part of the run directory's name.
        panels: the panels of a comparison's figure in which the run is drawn, a name or several;
            by default in every one.
        seed: of everything random.
        rounds: how many rounds ``run`` makes, and those that a schedule spans.
        workers: logical workers, each with its own shard and state.
        batch_size: examples a gradient on every worker, or "full" for its whole shard.
        evaluate_every: rounds between evaluations; the first and the last round are evaluated too.
        observe_every: rounds between looks inside the messages (errors, levels, bytes by layer),
            which cost a pass over every vector; the first round is looked at too; null for never.
        buffers_every: workers report running statistics (batch normalisation) every n-th round.
        engine: "ray", or "inline" for one process without Ray; both give the same result.
        actors: processes that host the workers (Ray only); by default one per processor, or as many
            as the GPUs have room for, and never more than workers, or than groups of those that
            compute their gradients at once.
        placement: on a cluster, "pack" puts servers and hosts on as few nodes as possible, and
            "spread" on as many, so that a server is away from the hosts where there are enough.
        placement_timeout_s: seconds to wait for a cluster's processors and GPUs, rounded up to
            whole ones: for those that others hold, and for nodes to join where it has too few. A
            local cluster that has too few is an error at once (Ray only).
        device: where workers compute. "cuda" keeps models and batches on a GPU and computes
            gradients there, and messages of methods that remember nothing (sgd, compressed-sgd,
            async-sgd, rennala); of others each gradient is copied to the CPU, where its message is
            made. The server stays on the CPU. Not run on a GPU yet.
        precision: of workers' forward passes: "float32", or "bfloat16" where torch's autocast takes
            it for exact enough; parameters, gradients, messages and evaluations are float32.
        gradients_at_once: so many workers, those with consecutive numbers, compute the first
            gradient of an exchange together in one pass of torch.func, where batches have the same
            shapes; all together where there are no more workers. Results differ in the last bits,
            and dropout draws other numbers. It takes memory for a gradient and the activations of
            each.
        gpus_per_actor: what every process that hosts workers reserves for device "cuda", by
            default 1; with 0.5, two share a GPU; above 1, a whole number of one node (Ray only).
        address: of a running Ray cluster; by default a local one is started, unless the process
            already belongs to one.
        threads: torch threads of every process; results may depend on it in the last bits.
        search_paths: directories, relative to the file, in which a problem of one's own is looked
            for; the file's own and the current one are added.
        round_timeout_s: seconds after which a round without an answer is an error; as many for
            loading the problem before the first (Ray only).
        restarts: how often a round is tried again that actors were lost in (Ray only): their
            process died, their node is gone, they do not answer, or frames came damaged; 0 for
            never.
        quorum: a round closes with the first reports, or at a deadline, and the rest are dropped as
            they come (Ray only); by default once all workers have reported.
        elastic: the number of workers follows the nodes that join and leave (Ray only); by default
            it stays.
        clock: how long everything takes, for metrics in simulated seconds, and for the order in
            which reports of an asynchronous method arrive (inline only).
        arrivals: a run directory: reports of an asynchronous method arrive in the order of its
            ledger, which repeats a run that was carried out on Ray (inline only).
        checkpoints: when what the run remembers is written down, to go on from after a crash; by
            default never.
        callbacks: who is told of the run as it goes.
    """

    problem: ProblemSource
    method: Method
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    downlink: Downlink = FULL
    servers: AtLeastOne = 1
    name: str = "run"
    panels: str | tuple[str, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: AtLeastOne = 100
    workers: AtLeastOne = 4
    batch_size: AtLeastOne | Literal["full"] = 32
    evaluate_every: AtLeastOne = 10
    observe_every: AtLeastOne | None = 10
    buffers_every: AtLeastOne = 1
    engine: Literal["ray", "inline"] = "ray"
    actors: AtLeastOne | None = None
    placement: Literal["pack", "spread"] = "pack"
    placement_timeout_s: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)] = 60.0
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = "float32"
    gradients_at_once: AtLeastOne = 1
    gpus_per_actor: Annotated[float, Field(ge=0.0001, le=1024, allow_inf_nan=False)] | None = None
    address: str | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    search_paths: tuple[str, ...] = ()
    round_timeout_s: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)] = 600.0
    restarts: Annotated[int, Field(ge=0)] = 3
    quorum: Quorum | None = None
    elastic: Elastic | None = None
    clock: Clock | None = None
    arrivals: str | None = None
    checkpoints: Checkpoints | None = None
    callbacks: tuple[Callback, ...] = ()

    def __post_init__(self) -> None:
        name = kind_of(self.method)
        if self.method.moves_parameters and self.optimizer is not None:
            raise ValueError(
                f"optimizer is given, and {name} moves the parameters itself, by steps of "
                "method.step_size: leave optimizer out"
            )
        if not self.method.moves_parameters and self.optimizer is None:
            raise ValueError("missing keys ['optimizer']")
        self._check_schedule(name)
        self.downlink.check(self.method)
        self._check_panels()
        self._check_servers(name)
        self._check_gpus()
        self._check_at_once(name)
        self._check_quorum()
        self._check_elastic()
        self._check_clock(name)

    def _check_schedule(self, name: str) -> None:
        if self.schedule is None:
            return
        if self.optimizer is None:
            raise ValueError(
                f"schedule is given, and {name} moves the parameters itself, by steps that stay: "
                "leave schedule out"
            )
        if self.optimizer.step_size == "theory":
            raise ValueError(
                "schedule is given, and optimizer.step_size is 'theory', which is of steps that "
                "stay: give a number, or leave schedule out"
            )

    @property
    def panel_names(self) -> tuple[str, ...]:
        """The panels in which the run is drawn; none where it is drawn in every one."""
        return (self.panels,) if isinstance(self.panels, str) else self.panels

    def _check_panels(self) -> None:
        names = self.panel_names
        if not all(map(str.strip, names)) or len(set(names)) < len(names):
            raise ValueError(f"panels is {list(names)}: give every panel a name, each once")

    def _check_quorum(self) -> None:
        if self.quorum is None:
            return
        self.quorum.check(self.method, self.workers)
        if self.engine == "inline":
            raise ValueError(
                "quorum is given, and engine is 'inline', where workers compute one after the "
                "other: give engine: ray, or leave quorum out"
            )
        if self.servers > 1:
            raise ValueError(
                f"quorum is given, and servers is {self.servers}: servers would close a round with "
                "different workers: give servers: 1"
            )
        if not isinstance(self.downlink, FullDownlink | HalfDownlink):
            raise ValueError(
                "quorum is given, and downlink says what has changed since the last round, which "
                "late workers lack: give downlink: full or half"
            )

    def _check_elastic(self) -> None:
        if self.elastic is None:
            return
        if self.engine == "inline" or self.actors is not None:
            found = "engine is 'inline'" if self.engine == "inline" else f"actors is {self.actors}"
            raise ValueError(
                f"elastic is given, and {found}: workers follow the processors of a cluster: give "
                "engine: ray and leave actors out, or leave elastic out"
            )

        if not self.elastic.least <= self.workers <= self.elastic.most:
            raise ValueError(
                f"workers is {self.workers}, and elastic is from {self.elastic.least} to "
                f"{self.elastic.most}: give workers within these bounds"
            )
        needed = (self.quorum.reports or 1) if self.quorum else 1
        if needed > self.elastic.least:
            raise ValueError(
                f"quorum.reports is {needed}, and elastic.least is {self.elastic.least}: there may "
                "be fewer workers than reports: give at least as many"
            )

    def _check_servers(self, name: str) -> None:
        if self.clip_norm is not None and self.method.moves_parameters:
            raise ValueError(
                f"clip_norm is {self.clip_norm:g}, and {name} moves the parameters itself: leave "
                "clip_norm out"
            )
        if self.servers == 1:
            return
        if self.method.timed:
            raise ValueError(
                f"servers is {self.servers}, and {name} goes by how long workers take, of which "
                "every server would see another part: give servers: 1"
            )
        if self.method.asynchronous:
            raise ValueError(
                f"servers is {self.servers}, and {name} is asynchronous: the spans of its "
                "parameters would move at different times: give servers: 1"
            )
        if self.clip_norm is not None and isinstance(self.downlink, RelayDownlink):
            raise ValueError(
                f"servers is {self.servers}, clip_norm is {self.clip_norm:g}, and downlink is "
                "relay: who replicates one span does not know the norm of the others: leave "
                "clip_norm out, or give another downlink"
            )

    def _check_gpus(self) -> None:
        gpus = self.gpus_per_actor
        if gpus is None:
            return
        if self.device != "cuda":
            raise ValueError(
                f"gpus_per_actor is {gpus:g}, and device is {self.device!r}, which uses no GPU: "
                "give device: cuda, or leave gpus_per_actor out"
            )
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(
                f"gpus_per_actor is {gpus:g}: above 1 give a whole number, since Ray shares out "
                "no parts of several GPUs"
            )

    def _check_at_once(self, name: str) -> None:
        if self.gradients_at_once == 1:
            return
        alone = {
            f"{name} is asynchronous, so that workers begin at different times": (
                self.method.asynchronous
            ),
            f"{name} gives every worker parameters of its own": self.method.own_points,
            "elastic is given, which gives every worker a process of its own": self.elastic,
            "quorum is given, and workers that compute together report together": self.quorum,
            f"{name} goes by how long every worker takes": self.method.timed,
        }
        if found := [reason for reason, is_so in alone.items() if is_so]:
            raise ValueError(
                f"gradients_at_once is {self.gradients_at_once}, and {' and '.join(found)}: give "
                "gradients_at_once: 1"
            )

    def _check_clock(self, name: str) -> None:
        if self.arrivals is not None:
            self._check_arrivals(name)
        elif self.method.asynchronous and self.engine == "inline" and self.clock is None:
            raise ValueError(
                f"{name} is asynchronous, and engine is 'inline', where all workers are in one "
                "process: give a clock, such as {compute_s: 1}, for simulated time; or arrivals, a "
                "run directory, for the order of that run; or engine: ray"
            )
        if self.method.timed and (self.method.asynchronous or self.quorum):
            other = "is asynchronous" if self.method.asynchronous else "quorum is given"
            raise ValueError(
                f"{name} goes by how long workers take, and {other}: times are measured where all "
                "reports of a round are waited for: leave one of them out"
            )
        if self.method.timed and self.engine == "inline":
            raise ValueError(
                f"{name} goes by how long workers take, and engine is 'inline', where nothing is "
                "sent: give engine: ray, or shadowheart with compute_s and message_s"
            )
        if self.clock is None:
            return
        if self.engine != "inline":
            raise ValueError(
                f"engine is {self.engine!r}, and clock is given: only the inline engine simulates "
                "time: give engine: inline, or leave clock out"
            )
        self.clock.check_workers(self.workers)

    def _check_arrivals(self, name: str) -> None:
        wrong = {
            f"{name} is not asynchronous": not self.method.asynchronous,
            f"engine is {self.engine!r}, where reports arrive as they come": self.engine == "ray",
            "a clock is given, which has an order of its own": self.clock is not None,
        }
        if found := [reason for reason, is_so in wrong.items() if is_so]:
            raise ValueError(
                f"arrivals is {self.arrivals!r}, and {' and '.join(found)}: leave arrivals out, or "
                "give engine: inline, an asynchronous method and no clock"
            )

    def num_hosts(self, most: int) -> int:
        """Return how many processes host workers where there is room for so many, at least 1."""
        return min(most, -(-self.workers // self.gradients_at_once))

    def hosted(self, num_hosts: int) -> list[tuple[int, ...]]:
        """Return which workers each of so many processes hosts: in turn, groups stay together."""
        own: list[list[int]] = [[] for _ in range(num_hosts)]
        for worker_id in range(self.workers):
            own[worker_id // self.gradients_at_once % num_hosts].append(worker_id)
        return [tuple(ids) for ids in own]

    @property
    def repeatable(self) -> bool:
        """Whether rounds that are run again are the same, whoever is faster than others."""
        return not (self.method.asynchronous or self.method.timed or self.quorum)

    @property
    def step_sizes(self) -> StepSizes | None:
        """Of every round; None without a schedule, where the optimizer's own stays."""
        if self.schedule is None or self.optimizer is None:
            return None
        return StepSizes(
            step_size=resolved(self.optimizer.step_size),
            schedule=self.schedule,
            rounds=self.rounds,
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return the plain mapping that describes this configuration, defaults included."""
        return {**describe(self), "search_paths": list(self.problem.search_paths)}


def load_config(
    source: "str | Path | Mapping[str, Any] | RunConfig", overrides: Sequence[str] = ()
) -> RunConfig:
    """Read the configuration of one run; ``compare`` and ``seeds`` in it are left aside.

    Args:
        source: a YAML file, a mapping, or a configuration to check again. In the last two, the
            methods, compressors ... may be the objects themselves instead of their descriptions.
        overrides: ``a.b=c`` settings, the value in YAML; they win over the file.

    Raises:
        ConfigError: names the place, quotes the value, and lists what is known.
        ProblemError: the problem cannot be imported.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides is {overrides!r}: give a list, [{overrides!r}]")
    if isinstance(source, RunConfig):
        fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
        source = {**fields, "search_paths": list(source.problem.search_paths)}
    read = read_source(source)
    if read.variants:
        check_stands_alone(read, overrides)
    return _build(read.base, overrides, read.paths, read.label, rename=True)


def load_variants(
    source: "str | Path | Mapping[str, Any]", overrides: Sequence[str] = ()
) -> list[RunConfig]:
    """Read the runs of a comparison: one for each entry of ``compare``, else the file's own.

    An entry's keys are merged into the rest of the file; a mapping whose ``kind`` differs replaces
    the other. Overrides win over both.

    Raises:
        ConfigError, ProblemError: see ``load_config``.
    """
    read = read_source(source)
    if not read.variants:
        return [_build(read.base, overrides, read.paths, read.label, rename=True)]
    return [
        _build(merged(read.base, variant), overrides, read.paths, f"{read.label}: compare[{index}]")
        for index, variant in enumerate(read.variants)
    ]


def _build(
    values: dict[str, Any],
    overrides: Sequence[str],
    paths: tuple[str, ...],
    label: str,
    rename: bool = False,
) -> RunConfig:
    changes = [parsed(override) for override in overrides]
    for change in changes:
        values = merged(values, escaped(change))
    values = expanded(values, label)
    name = values.get("name")
    if rename and isinstance(name, str) and not any("name" in change for change in changes):
        values = {**values, "name": changed_name(name, overrides)}
    _check_optimizer(values.get("optimizer"), label)
    more = values.get("search_paths")
    if isinstance(more, list):
        try:
            given = [str((Path(paths[0]) / str(path)).resolve()) for path in more]
        except (OSError, ValueError) as error:
            raise ConfigError(f"{label}: search_paths: got {more!r:.200}: {error}") from error
        paths = tuple(dict.fromkeys([*given, *paths]))
    try:
        for name, cls in WITHOUT_KIND.items():
            if isinstance(described := values.get(name), Mapping):
                values = {**values, name: build(cls, described, name)}
        config = build(RunConfig, values, "", paths)
        parts = (config.method, config.optimizer, config.schedule, *config.callbacks)
        if any("." in kind for part in parts for kind in _kinds(describe(part))):  # of one's own
            problem = dataclasses.replace(config.problem, search_paths=paths)
            config = dataclasses.replace(config, problem=problem)
        return config
    except ConfigError as error:
        raise ConfigError(f"{label}: {in_words(str(error))}") from error
    except RecursionError as error:
        raise ConfigError(f"{label}: is nested too deeply") from error


def _check_optimizer(described: object, label: str) -> None:
    """Refuse a step size by theory of an optimizer that has none.

    Raises:
        ConfigError: says which has.
    """
    if not isinstance(described, Mapping) or described.get("step_size") != "theory":
        return
    kind, known = described.get("kind"), KINDS[Optimizer]
    cls = known.get(kind) if isinstance(kind, str) else None
    if cls is not None and "theory" not in str(type_hints(cls)["step_size"]):
        raise ConfigError(
            f"{label}: optimizer.step_size is 'theory' and optimizer.kind is {kind!r}: theory "
            "knows plain steps only: give kind: sgd, or a number"
        )


def _kinds(described: Any) -> Iterator[str]:
    """Yield every kind in a description."""
    if isinstance(described, dict):
        yield str(described.get("kind", ""))
        for value in described.values():
            yield from _kinds(value)
