"""Step sizes by theory: from exact constants, from estimated ones, and where there are none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Generator, Tensor, nn

from launch import Session
from launch.comparing.compare import compare
from launch.configuration.run_config import RunConfig, load_config
from launch.theory.step_size import MOST_EXAMPLES, check_step_size, describe_step, with_step_size
from mlmc_ray.errors import ConfigError
from mlmc_ray.methods.theory import StepSize
from mlmc_ray.problems import Quadratic, Shard, TensorShard
from mlmc_ray.seeding import drawing, seed_for

PROBLEM = Quadratic(num_functions=8, dim=24)
KNOWN = PROBLEM.constants(8)
EF21: dict[str, Any] = {"kind": "ef21-sgdm", "momentum": 1, "compressor": {"kind": "top-k", "k": 6}}


@dataclass(frozen=True)
class Unexplored:
    """A quadratic that does not say how curved it is."""

    known: Quadratic

    def model(self) -> nn.Module:
        return self.known.model()

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return self.known.loss(model, batch)

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> Shard:
        return self.known.shard(worker_id, num_workers, generator)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        return self.known.evaluate(model)


class Flat(Unexplored):
    """The same with a loss that is linear, so without curvature."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x: Tensor = model(None)
        return 0 * x.square().sum() + x.sum()


class Constant(Unexplored):
    """The same with a loss that depends on nothing."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        return torch.tensor(1.0)


class Dropping(Unexplored):
    """The same with a loss that draws from torch's global generator."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x: Tensor = model(None)
        return torch.nn.functional.dropout(x.square(), 0.5).sum() * torch.rand(())


class WithUnused(nn.Module):
    """Two vectors besides x, of which the loss uses one linearly and the other not at all."""

    def __init__(self, x: nn.Module) -> None:
        super().__init__()
        self.x = x
        self.offset = nn.Parameter(torch.zeros(3))
        self.unused = nn.Parameter(torch.zeros(2))

    def forward(self, inputs: None) -> Tensor:
        x: Tensor = self.x(inputs)
        return x


class Padded(Unexplored):
    """The same with parameters more."""

    def model(self) -> nn.Module:
        return WithUnused(self.known.model())

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        assert isinstance(model, WithUnused)
        return self.known.loss(model, batch) + model.offset.sum()


def config_of(method: Any = "sgd", **changes: Any) -> RunConfig:
    return load_config(
        {
            "problem": {"kind": "quadratic", "num_functions": 8, "dim": 24},
            "method": method,
            "optimizer": {"kind": "sgd", "step_size": "theory"},
            "workers": 8,
            "batch_size": "full",
            "engine": "inline",
            **changes,
        }
    )


def compressed(**compressor: Any) -> dict[str, Any]:
    return {"kind": "compressed-sgd", "compressor": compressor}


def step_of(method: Any, problem: Any = PROBLEM) -> float:
    """The number that is put in, once by itself and once in the configuration."""
    config, step = with_step_size(config_of(method), problem)
    assert step is not None
    assert config.optimizer is not None
    assert config.optimizer.step_size == step.value
    return step.value


# From exact constants.


def test_the_step_of_gradient_descent_is_one_over_l() -> None:
    assert step_of("sgd") == 1 / KNOWN.smoothness


def test_the_step_of_compressed_sgd_depends_on_omega() -> None:
    spread = 2 * (24 / 6 - 1) * KNOWN.largest_smoothness / 8  # omega of rand-k is d/k - 1
    expected = 1 / (KNOWN.smoothness + spread)
    assert step_of(compressed(kind="rand-k", k=6)) == pytest.approx(expected, rel=1e-12)


def test_the_step_of_ef21_depends_on_alpha() -> None:
    root = 0.75**0.5  # alpha of top-k is k/d
    ratio = 2**0.5 * root / (1 - root)
    expected = 1 / (KNOWN.smoothness + KNOWN.mean_smoothness * ratio)
    assert step_of(EF21) == pytest.approx(expected, rel=1e-12)


def test_a_number_is_left_as_it_is() -> None:
    config = config_of(optimizer={"kind": "sgd", "step_size": 0.5})
    assert with_step_size(config, PROBLEM) == (config, None)


def test_a_session_resolves_the_step_size_and_says_so() -> None:
    with Session(config_of()) as session:
        assert session.theory is not None
        assert session.theory.value == 1 / KNOWN.smoothness
        assert session.config.to_mapping()["optimizer"]["step_size"] == session.theory.value
        gap = session.metrics[0]["test_gap"]
        rate = 1 - session.theory.value * KNOWN.strong_convexity
        assert session.run(20)["test_gap"] <= rate**20 * gap


def test_a_step_size_is_described_in_a_line() -> None:
    step = StepSize(0.25, "1 / L", "f falls")
    assert describe_step(step) == "step size 0.25 = 1 / L: f falls"


# From estimated constants.


@pytest.mark.parametrize("family", ["random", "diagonal", "tridiagonal"])
def test_estimates_are_within_a_tenth(family: Any) -> None:
    problem = replace(PROBLEM, family=family)
    known = problem.constants(8)
    estimate = 1 / step_of("sgd", Unexplored(problem))
    assert 0.9 * known.smoothness <= estimate <= known.smoothness * (1 + 1e-5)


UNLIKE = replace(PROBLEM, family="tridiagonal", heterogeneity=1.0, seed=3)


def test_the_largest_smoothness_is_estimated() -> None:
    """With omega = 3 and 8 workers the step's inverse is L + 3/4 L_max."""
    known = UNLIKE.constants(8)
    estimate = 1 / step_of(compressed(kind="rand-k", k=6), Unexplored(UNLIKE))
    assert estimate == pytest.approx(known.smoothness + 0.75 * known.largest_smoothness, rel=0.1)


def test_the_quadratic_mean_of_the_smoothness_is_estimated() -> None:
    """With alpha = 1/4 and no known mu the step's inverse is L + L~ sqrt(3/4)/(1 - sqrt(3/4))."""
    known = UNLIKE.constants(8)
    estimate = 1 / step_of(EF21, Unexplored(UNLIKE))
    ratio = 0.75**0.5 / (1 - 0.75**0.5)
    assert estimate == pytest.approx(known.smoothness + known.mean_smoothness * ratio, rel=0.1)


class Counting(Unexplored):
    """The same with shards of many examples, which are counted."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        assert len(batch[0]) == MOST_EXAMPLES
        curvature = batch[0].mean()  # depends on what was drawn
        x: Tensor = model(None)
        loss: Tensor = curvature * x.square().sum()
        return loss

    def shard(self, worker_id: int, num_workers: int, generator: Generator) -> Shard:
        return TensorShard((torch.linspace(1, 2, 3 * MOST_EXAMPLES),))


def test_estimates_take_few_examples_and_repeat() -> None:
    notes: list[str] = []
    config = config_of()
    first = with_step_size(config, Counting(PROBLEM), notes.append)
    assert first == with_step_size(config, Counting(PROBLEM))
    assert notes == [
        "estimating the curvature (480 products with Hessians, of at most 256 examples each)"
    ]


def test_a_method_without_theory_is_refused_before_anything_is_estimated() -> None:
    with pytest.raises(ConfigError, match="needs an unbiased compressor"):
        check_step_size(config_of(compressed(kind="top-k", k=6)), Unexplored(PROBLEM))


def test_a_comparison_is_checked_whole_before_its_first_run(tmp_path: Path) -> None:
    first = config_of()
    second = replace(config_of(compressed(kind="top-k", k=6)), name="Top-k")
    text = "^Top-k: optimizer.step_size: theory: .* needs an unbiased compressor"
    with pytest.raises(ConfigError, match=text):
        compare([first, second], tmp_path / "out", Console())
    assert not (tmp_path / "out").exists()


def test_estimates_take_the_threads_of_the_run() -> None:
    class Watching(Unexplored):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            assert torch.get_num_threads() == 3
            return self.known.loss(model, batch)

    before = torch.get_num_threads()
    with_step_size(config_of(threads=3), Watching(PROBLEM))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("flat", [Flat, Constant])
def test_a_loss_without_curvature_gives_no_step_size(flat: type[Unexplored]) -> None:
    with pytest.raises(ConfigError, match=r"no finite curvature .*: give a step size"):
        with_step_size(config_of(), flat(PROBLEM))


def test_parameters_without_curvature_count_as_zero() -> None:
    assert step_of("sgd", Padded(PROBLEM)) == pytest.approx(1 / KNOWN.smoothness, rel=0.1)


def test_a_loss_that_draws_has_one_hessian() -> None:
    """2 z r with dropout's multiple z of an entry, 0 or 2, and r the number that is drawn."""
    before = torch.random.get_rng_state()
    first = step_of("sgd", Dropping(PROBLEM))
    torch.manual_seed(99)
    assert step_of("sgd", Dropping(PROBLEM)) == first
    with drawing(seed_for(config_of().seed, "curvature")):
        kept = torch.nn.functional.dropout(torch.ones(24), 0.5).max() * torch.rand(())
    assert first == pytest.approx(1 / (2 * float(kept)), rel=1e-4)
    torch.random.set_rng_state(before)


def test_drawing_losses_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    step_of("sgd", Dropping(PROBLEM))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_estimate_guarantees_nothing_and_says_so() -> None:
    for method in ("sgd", compressed(kind="rand-k", k=6), EF21):
        _, step = with_step_size(config_of(method), Unexplored(PROBLEM))
        assert step is not None
        assert describe_step(step).endswith(": L estimated at the first parameters; no guarantee")
        _, exact = with_step_size(config_of(method), PROBLEM)
        assert exact is not None
        assert "no guarantee" not in exact.guarantee


def test_functions_that_are_not_convex_are_refused_where_theory_needs_it() -> None:
    unlike = replace(PROBLEM, family="tridiagonal", heterogeneity=5.0, seed=15)
    with pytest.raises(ConfigError, match=r"^optimizer.step_size: theory: .* all convex"):
        with_step_size(config_of(compressed(kind="rand-k", k=1)), unlike)


# What else is said.


def described(method: Any, **changes: Any) -> str:
    config = config_of(method, **changes)
    _, step = with_step_size(config, config.problem.load())
    assert step is not None
    return describe_step(step)


def test_the_constants_of_the_formula_are_told() -> None:
    text = described(compressed(kind="rand-k", k=6))
    assert f", with L = {KNOWN.smoothness:.4g}, L_max = {KNOWN.largest_smoothness:.4g}, " in text
    assert ", omega = 3, M = 8: E|x" in text
    assert "perm-k" not in text
    assert "M - 1 for M with perm-k" in described(compressed(kind="perm-k"))


@pytest.mark.parametrize(("noise", "told"), [(0.0, False), (1.0, True)])
def test_a_floor_is_told_where_batches_have_noise(noise: float, told: bool) -> None:
    problem = {"kind": "quadratic", "num_functions": 8, "dim": 24, "noise": noise}
    text = described("sgd", problem=problem, batch_size=32)
    assert ("to a floor that their noise leaves" in text) is told


PROXIMAL = {"kind": "proximal-sgd", "step_size": "theory", "l1": 0.1}


@pytest.mark.parametrize(
    ("method", "promise"),
    [
        (
            "sgd",
            ": |x - x*|^2 shrinks by 1 - step mu a round, x* of the objective with l1 and l2, ",
        ),
        (
            {"kind": "diana", "compressor": {"kind": "rand-k", "k": 6}},
            ": E|x - x*|^2 shrinks by max(1 - step mu, 1 - alpha / 2) a round, x* of the objective",
        ),
        (EF21, ": no guarantee is known with proximal steps"),
        ({"kind": "svrg", "compressor": "identity"}, ": no guarantee is known with proximal steps"),
    ],
)
def test_proximal_steps_have_a_guarantee_of_their_own(method: Any, promise: str) -> None:
    assert promise in described(method, optimizer=PROXIMAL)
    assert promise not in described(method, optimizer={**PROXIMAL, "l1": 0.0})


@pytest.mark.parametrize(
    ("clock", "age", "told"),
    [
        ({"compute_s": 1}, 7, "age being 7, the largest with this clock"),
        (
            {"compute_s": [1, 1, 1, 1, 1, 1, 1, 2.5]},
            21,
            "age being 21, the largest with this clock",
        ),
        ({"compute_s": 1, "jitter": 0.5}, 7, "which this clock does not ensure"),
    ],
)
def test_the_age_of_reports_is_that_of_the_clock(clock: Any, age: int, told: str) -> None:
    config = config_of("async-sgd", clock=clock)
    _, step = with_step_size(config, PROBLEM)
    assert step is not None
    assert step.value == pytest.approx(1 / (KNOWN.smoothness * (1 + age)), rel=1e-12)
    assert told in step.guarantee


def test_vr_diana_has_a_step_for_its_own_shift_step_only() -> None:
    method = {"kind": "diana", "compressor": {"kind": "rand-k", "k": 6}, "refresh": 0.5}
    assert step_of(method) > 0
    with pytest.raises(ConfigError, match=r"shift_step is 0\.1 .* known for shift_step left out"):
        check_step_size(config_of({**method, "shift_step": 0.1}), PROBLEM)


# Where there is none.


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        *[
            (
                {"optimizer": {"kind": kind, "step_size": "theory"}},
                f"^configuration: optimizer.step_size is 'theory' and optimizer.kind is '{kind}': "
                "theory knows plain steps only: give kind: sgd, or a number$",
            )
            for kind in ("adam", "adamw")
        ],
        (
            {"optimizer": {"kind": "sgd", "step_size": "theory", "momentum": 0.9}},
            r"step_size is 'theory', momentum is 0\.9 .*: theory knows steps without both",
        ),
        (
            {"optimizer": {"kind": "sgd", "step_size": "theory", "weight_decay": 0.1}},
            r"weight_decay is 0\.1: theory knows steps without both",
        ),
    ],
)
def test_optimizers_without_theory_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config_of(**changes)


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (
            {"kind": "power-sgd"},
            "no step size is known for power-sgd: give a number; mlmc-ray methods says of "
            "which methods one is known$",
        ),
        ({**EF21, "momentum": 0.1}, r"momentum is 0\.1: a step size is known for momentum 1"),
        (compressed(kind="top-k", k=6), "needs an unbiased compressor"),
        (compressed(kind="adaptive-random"), "needs an unbiased compressor"),
        (compressed(kind="eden", bits=2), r"no omega is known of \{kind: eden, bits: 2.0\}:"),
    ],
)
def test_methods_without_theory_are_refused(method: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"optimizer.step_size: theory: .*{complaint}"):
        with_step_size(config_of(method), PROBLEM)


def test_a_method_that_has_a_theory_is_not_sent_to_the_others() -> None:
    with pytest.raises(ConfigError) as caught:
        check_step_size(config_of(compressed(kind="top-k", k=6)), PROBLEM)
    assert "mlmc-ray methods" not in str(caught.value)


def test_a_method_that_takes_its_own_steps_is_the_place() -> None:
    scaffnew = config_of("scaffnew", optimizer=None)
    with pytest.raises(ConfigError) as caught:
        with_step_size(scaffnew, Unexplored(PROBLEM))
    assert str(caught.value) == (
        "method: theory: every worker's own function must be strongly convex, and that is not "
        "known here: give step_size and probability"
    )
    config, step = with_step_size(scaffnew, PROBLEM)
    assert step is not None
    assert config.to_mapping()["method"]["step_size"] == step.value


def test_a_loss_without_curvature_is_told_what_would_do() -> None:
    with pytest.raises(ConfigError) as caught:
        with_step_size(config_of(), Flat(PROBLEM))
    assert str(caught.value) == (
        "theory: the loss has no finite curvature at the first parameters: give a step size"
    )
