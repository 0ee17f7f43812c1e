"""``mlmc-ray bench frontier``: error against bits of unbiased compressors over their settings."""

import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Generator, Tensor
from typer.testing import CliRunner, Result

from launch.benching import frontier_settings
from launch.benching.benched import square_layers
from launch.benching.frontier import Frontier, Point, bits_at_error, entries, measure_frontier
from launch.benching.frontier_report import equal_error_table, equal_errors, frontier_table
from launch.benching.frontier_settings import SETTINGS, chosen, kind_of, lines
from launch.benching.gradients import NETWORKS, TrainingGradient, gradient_of
from launch.cli import app
from launch.configuration.catalogue import KINDS
from launch.configuration.fields import name_of
from mlmc_ray.compressors import EDEN, Bernoulli, Compressor, Identity, PaperCost, RandK, bound
from mlmc_ray.compressors.base import Context
from mlmc_ray.errors import ConfigError, ProblemError
from mlmc_ray.ladders import Ladder
from mlmc_ray.payloads import DensePayload, Message, Payload
from mlmc_ray.problems import initial_model
from mlmc_ray.seeding import generator_for
from mlmc_ray.wire import encode
from tests.mlmc_ray.cases import ALL_COMPRESSORS

DIM = 4096


def run(*arguments: str) -> Result:
    words = ["bench", "frontier", *arguments]
    return CliRunner().invoke(app, words, env={"COLUMNS": "200"})


def measured(lines: dict[str, list[Compressor]], vector: Tensor, repeats: int = 5) -> Frontier:
    return measure_frontier(lines, vector, repeats, Console(file=io.StringIO()))


def point(error: float, bits: float, line: str = "a") -> Point:
    return Point(
        line=line,
        name=f"{line}({error})",
        repeats=2,
        frame_bytes=1000 * bits,
        bits_per_value=bits,
        bits_standard_error=0.0,
        relative_error=error,
        error_standard_error=0.0,
        merit=bits * (1 + error),
        norm_variation=None,
        error_cosine=None,
        neighbour_correlation=None,
    )


@dataclass(frozen=True, kw_only=True)
class Alternating:
    """Add ``first``, -``first``, ``first``, ..., and in every other message twice that."""

    first: float
    unbiased = True

    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        twice = 1 + int(torch.randint(2, (), generator=generator))
        signs = 1 - 2 * (torch.arange(vector.numel()) % 2)
        return DensePayload(vector + twice * self.first * signs)

    def omega(self, dim: int) -> float | None:
        return None

    def alpha(self, dim: int) -> float | None:
        return None

    def paper_cost(self, dim: int) -> PaperCost | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Broken(Alternating):
    def compress(self, vector: Tensor, *, generator: Generator) -> Payload:
        raise KeyError("broken")


def test_every_unbiased_kind_has_a_line() -> None:
    found = lines(square_layers(DIM))
    kinds = {kind_of(name_of(one)) for line in found.values() for one in line}
    unbiased = {kind_of(name_of(one)) for one in ALL_COMPRESSORS if one.unbiased}
    assert unbiased - {"lazy"} <= kinds <= set(KINDS[Compressor])
    assert [line for line in SETTINGS if kind_of(line) not in KINDS[Compressor]] == []


def test_every_ladder_has_a_line() -> None:
    """Of MLMC, for a whole vector or layer by layer."""
    found = set()
    for descriptions in SETTINGS.values():
        for one in descriptions:
            inner = one["compressor"] if one["kind"] == "per-layer" else one
            if inner["kind"] == "mlmc":
                ladder = inner["ladder"]
                found.add(ladder if isinstance(ladder, str) else ladder["kind"])
    assert found == set(KINDS[Ladder])


def test_all_of_a_line_are_unbiased_and_different() -> None:
    for line, compressors in lines(square_layers(DIM)).items():
        assert all(one.unbiased for one in compressors), line
        names = [name_of(one) for one in compressors]
        assert len(set(names)) == len(names) > 0, line


def test_lines_are_bound_to_the_layers() -> None:
    shapes = ((10, 20), (30,))
    (first, *_) = lines(shapes, ["per-layer"])["per-layer(eden)"]
    context = Context(generator=generator_for(0), layer_sizes=(200, 30), layer_shapes=shapes)
    assert first == bound(first, context)


def test_settings_span_the_bits() -> None:
    vector, shapes = entries("gaussian", 100_000, 0)
    (points,) = measured(lines(shapes, ["eden"]), vector, 2).lines().values()
    bits = [one.bits_per_value for one in points]
    assert bits == sorted(bits)
    assert bits[0] < 0.02
    assert bits[-1] > 2.5


def test_words_choose_lines() -> None:
    names = ["eden", "mlmc(rtn)", "mlmc(ecuq)"]
    assert chosen(names, [], "--only") == names
    assert chosen(names, ["mlmc"], "--only") == names[1:]
    assert chosen(names, ["mlmc(rtn)", "eden"], "--only") == names[:2]
    with pytest.raises(ConfigError, match=r"--only edn: no line is called that \(did you mean"):
        chosen(names, ["edn"], "--only")


def test_a_point_counts_whole_frames_and_the_error_of_what_is_decoded() -> None:
    vector, _ = entries("gaussian", DIM, 0)
    compressor = EDEN(bits=1)
    (found,) = measured({"eden": [compressor]}, vector, 3).points
    sizes, errors, norms, cosines = [], [], [], []
    for repeat in range(3):
        payload = compressor.compress(vector, generator=generator_for(0, "frontier", repeat))
        sizes.append(len(encode(Message({"v": payload}))))
        error = payload.to_dense().double() - vector.double()
        errors.append(float(error.square().sum() / vector.double().square().sum()))
        norms.append(float(payload.to_dense().double().norm()))
        cosines.append(float(torch.cosine_similarity(error, vector.double(), dim=0)))
    assert found.frame_bytes == pytest.approx(np.mean(sizes))
    assert found.bits_per_value == pytest.approx(8 * np.mean(sizes) / DIM)
    assert found.relative_error == pytest.approx(np.mean(errors))
    assert found.error_standard_error == pytest.approx(np.std(errors, ddof=1) / math.sqrt(3))
    assert found.norm_variation == pytest.approx(np.std(norms, ddof=1) / np.mean(norms))
    assert found.error_cosine == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found.merit == pytest.approx(found.bits_per_value * (1 + found.relative_error))
    assert found.relative_error == pytest.approx(math.pi / 2 - 1, rel=0.05)


def test_rand_k_has_the_error_of_theory() -> None:
    vector, _ = entries("gaussian", DIM, 0)
    (found,) = measured({"rand-k": [RandK(k=0.25)]}, vector, 50).points
    assert found.relative_error == pytest.approx(3, abs=5 * found.error_standard_error)
    assert 0 < found.error_standard_error < 0.05
    # <e, v> is 0 on average, but its mean is over few messages
    assert found.error_cosine == pytest.approx(0, abs=0.02)
    assert found.neighbour_correlation == pytest.approx(0, abs=0.01)


def test_errors_of_neighbours_may_be_of_opposite_signs() -> None:
    vector, _ = entries("gaussian", DIM, 0)
    (found,) = measured({"own": [Alternating(first=0.5)]}, vector).points
    assert found.neighbour_correlation == pytest.approx(-1, rel=1e-5)
    assert found.bits_per_value == pytest.approx(32, rel=0.01)


def test_columns_are_what_the_table_says() -> None:
    """From what is decoded of three messages that are known: 1, 2 and 2 times the same error."""
    vector = torch.tensor([3.0, -1.0, 2.0, 4.0])
    (found,) = measured({"own": [Alternating(first=0.5)]}, vector, 3).points
    errors, norms = [], []
    for repeat in range(3):
        sent = Alternating(first=0.5).compress(
            vector, generator=generator_for(0, "frontier", repeat)
        )
        errors.append(sent.to_dense().double().numpy() - vector.double().numpy())
        norms.append(float(np.linalg.norm(sent.to_dense().numpy())))
    assert {round(abs(error[0]), 6) for error in errors} == {0.5, 1.0}
    assert found.norm_variation == pytest.approx(np.std(norms, ddof=1) / np.mean(norms))
    along = np.mean([error @ vector.numpy() for error in errors])
    length = np.mean([error @ error for error in errors]) ** 0.5
    assert found.error_cosine == pytest.approx(along / length / 30**0.5)
    products = np.mean([error[:-1] * error[1:] for error in errors])
    squares = np.mean([error**2 for error in errors])
    assert found.neighbour_correlation == pytest.approx(products / squares)
    assert found.relative_error == pytest.approx(np.mean([error @ error for error in errors]) / 30)


def test_errors_of_any_length_without_bias_have_no_direction() -> None:
    """Rare messages that are far too long make up for many that say nothing.

    The mean of the cosines of single messages is p - (1 - p): it is -0.8 for p = 0.1.
    """
    (found,) = measured({"bernoulli": [Bernoulli(p=0.1)]}, torch.ones(1), 400).points
    assert found.error_cosine == pytest.approx(0, abs=4 / 400**0.5)


@pytest.mark.parametrize("kind", ["student-t", "log-normal"])
def test_heavy_tails_run(kind: str) -> None:
    result = run("--kind", kind, "--dim", "3000", "--repeats", "2", "--only", "mlmc")
    assert result.exit_code == 0, result.output
    assert f"3,000 values, {kind}" in result.output
    assert "failed" not in result.output


def test_what_has_no_error_has_no_direction_of_it() -> None:
    (found,) = measured({"identity": [Identity()]}, torch.ones(DIM), 2).points
    assert found.relative_error == 0
    assert found.error_cosine is None
    assert found.neighbour_correlation is None
    assert found.norm_variation == 0


def test_messages_that_say_nothing_have_no_spread() -> None:
    (found,) = measured({"bernoulli": [Bernoulli(p=1e-9)]}, torch.ones(10), 2).points
    assert found.norm_variation is None
    assert found.relative_error == 1
    assert found.error_cosine == pytest.approx(-1)


def test_a_failure_costs_the_others_nothing() -> None:
    vector, _ = entries("gaussian", 100, 0)
    found = measured({"own": [Broken(first=1.0)], "rand-k": [RandK(k=10)]}, vector)
    assert [one.line for one in found.points] == ["rand-k"]
    (failure,) = found.failures
    assert failure.reason == "KeyError: 'broken'"
    assert "Broken(first=1.0)" in failure.name


@pytest.mark.parametrize(
    ("repeats", "vector", "text"),
    [(1, torch.ones(3), "repeats is 1"), (2, torch.zeros(3), "all 3 entries are 0")],
)
def test_what_cannot_be_measured_is_refused(repeats: int, vector: Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        measured({"identity": [Identity()]}, vector, repeats)


def test_entries_have_the_tails_of_their_kind() -> None:
    for kind, share in (("gaussian", 0.0027), ("student-t", 0.0577), ("log-normal", 0.1360)):
        vector, shapes = entries(kind, 200_000, 1)
        assert sum(math.prod(shape) for shape in shapes) == vector.numel()
        beyond = float((vector.abs() > 3).float().mean())  # of the law: P(|x| > 3)
        assert beyond == pytest.approx(share, rel=0.1), kind
        assert float(vector.sign().mean()) == pytest.approx(0, abs=0.01)


def test_bits_at_an_error_follow_a_power_law() -> None:
    points = [point(4.0, 0.25), point(0.25, 4.0), point(1.0, 1.0), point(0.0, 32.0)]  # R = 1/error
    assert bits_at_error(points, 2.0) == pytest.approx(0.5)
    assert bits_at_error(points, 0.5) == pytest.approx(2.0)
    assert bits_at_error(points, 4.0) == pytest.approx(0.25)
    assert bits_at_error(points, 4.1) is None
    assert bits_at_error(points, 0.2) is None
    assert bits_at_error([point(0.0, 32.0)], 1.0) is None


def test_settings_that_another_beats_do_not_count() -> None:
    points = [point(4.0, 0.25), point(1.0, 1.0), point(1.1, 1.5), point(0.25, 4.0)]
    assert bits_at_error(points, 1.1) == pytest.approx(1 / 1.1)
    assert bits_at_error(points, 0.5) == pytest.approx(2.0)


def test_an_error_of_rounding_is_none() -> None:
    points = [point(1.0, 1.0), point(0.25, 4.0), point(1e-15, 20.0)]
    assert bits_at_error(points, 0.01) is None
    found = Frontier(points=points, failures=[])
    assert equal_errors(found, "a") == {"a": [pytest.approx(1.0), pytest.approx(4.0)]}


def test_lines_are_compared_at_the_errors_of_one() -> None:
    mine = [point(2.0, 0.25, "mine"), point(0.5, 1.0, "mine"), point(0.0, 32.0, "mine")]
    found = Frontier(points=[*mine, point(4.0, 0.25), point(1.0, 1.0)], failures=[])
    assert equal_errors(found, "mine") == {
        "mine": [pytest.approx(0.25), pytest.approx(1.0)],
        "a": [pytest.approx(0.5), None],
    }
    table = equal_error_table(found, "mine")
    cells = [list(column.cells) for column in table.columns[1:]]
    assert cells == [["0.25 (1.00)", "0.5 (2.00)"], ["1 (1.00)", "-"]]


def test_a_standard_error_is_shown_where_it_matters() -> None:
    vector, _ = entries("gaussian", DIM, 0)
    found = measured({"bernoulli": [Bernoulli(p=0.01)], "eden": [EDEN(bits=2)]}, vector)
    errors = [str(cell) for cell in frontier_table(found, DIM, "gaussian").columns[3].cells]
    assert "±" in errors[0]
    assert "±" not in errors[1]


def test_a_gradient_is_made_once(tmp_path: Path) -> None:
    wanted = TrainingGradient(network="digits", round_index=2, step_size=0.1, batch_size=8)
    console = Console(file=io.StringIO())
    gradient, shapes = gradient_of(wanted, tmp_path / "kept", None, console)
    model = initial_model(wanted.problem(), 0)
    assert shapes == model.layer_shapes
    assert gradient.shape == model.parameters.shape
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == [f"digits-round{i}-step0.1-batch8-seed0.npy" for i in (0, 2)]
    path = tmp_path / "kept" / names[1]
    np.save(path, 2 * gradient.numpy())
    again, _ = gradient_of(wanted, tmp_path / "kept", None, console)
    torch.testing.assert_close(again, 2 * gradient, rtol=0, atol=0)


def test_rounds_of_training_are_plain_sgd(tmp_path: Path) -> None:
    kept = {
        round_index: gradient_of(
            TrainingGradient(network="digits", round_index=round_index, step_size=0.1),
            tmp_path / str(round_index),
            None,
            Console(file=io.StringIO()),
        )[0]
        for round_index in (0, 1)
    }
    wanted = TrainingGradient(network="digits", round_index=1, step_size=0.1)
    problem, model = wanted.problem(), initial_model(wanted.problem(), 0)
    model.parameters.add_(kept[0], alpha=-0.1)
    shard = problem.shard(0, 1, generator_for(0, "shards"))
    problem.loss(model.module, shard.sample(64, generator_for(0, 1, "batch"))).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(kept[1], model.collect_gradients(), rtol=1e-4, atol=1e-6)


def test_the_name_of_a_file_has_all_settings() -> None:
    base = TrainingGradient(network="digits", round_index=2)
    others = (
        replace(base, network="cnn"),
        replace(base, step_size=0.1),
        replace(base, batch_size=8),
        replace(base, seed=1),
    )
    names = {one.file_name(2) for one in (base, *others)} | {base.file_name(3)}
    assert len(names) == 6


@pytest.mark.parametrize("content", [b"", b"no array", "short"])
def test_a_damaged_file_is_named(content: bytes | str, tmp_path: Path) -> None:
    wanted = TrainingGradient(network="digits", round_index=0)
    path = tmp_path / wanted.file_name(0)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.ones(3, np.float32))
    with pytest.raises(ProblemError, match=r"step0.05.*is no gradient of 38,282 .*delete it"):
        gradient_of(wanted, tmp_path, None, Console(file=io.StringIO()))


def test_training_that_diverges_says_so(tmp_path: Path) -> None:
    wanted = TrainingGradient(network="digits", round_index=9, step_size=1e20)
    with pytest.raises(ProblemError, match=r"step size 1e\+20: the loss of round 1 is .*smaller"):
        gradient_of(wanted, tmp_path, None, Console(file=io.StringIO()))


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    arguments = ["--data-dir", str(tmp_path / "none"), "--cache", str(tmp_path / "kept")]
    result = run("--gradient", "perceptron:0", *arguments)
    assert result.exit_code == 2
    assert "FashionMNIST: torchvision finds no complete data in" in result.output
    assert "Traceback" not in result.output


def test_the_command_writes_points_and_comparison(tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "f.json"), "--png", str(tmp_path / "f.png")]
    choice = ["--only", "rand-k", "--against", "eden"]
    result = run("--dim", str(DIM), "--repeats", "2", *choice, *files)
    assert result.exit_code == 0, result.output
    assert "eden(bits=0.01)" in result.output
    assert "bits a value at the errors of eden" in result.output
    report = json.loads((tmp_path / "f.json").read_text())
    assert (report["dim"], report["vector"]) == (DIM, {"name": "gaussian"})
    assert {one["line"] for one in report["points"]} == {"rand-k", "eden"}
    assert all(one["repeats"] == 2 for one in report["points"])
    times = report["bits_at_equal_error"]["rand-k"]
    assert len(times) == len(SETTINGS["eden"])
    compared = [
        (bits, one["bits_per_value"])
        for bits, one in zip(times, report["points"][-len(times) :], strict=True)
        if bits is not None
    ]
    assert compared
    assert all(bits > least for bits, least in compared)  # 32 bits an entry kept against one
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_takes_a_gradient(tmp_path: Path) -> None:
    cache = ["--cache", str(tmp_path), "--step-size", "0.1", "--batch-size", "8"]
    arguments = ["--gradient", "digits:1", "--only", "terngrad", "--repeats", "2"]
    result = run(*arguments, *cache, "--json", str(tmp_path / "f.json"))
    assert result.exit_code == 0, result.output
    assert "gradient of digits at round 1, step size 0.1, batch 8" in result.output
    report = json.loads((tmp_path / "f.json").read_text())
    assert report["dim"] == 38_282
    assert report["vector"]["network"] == "digits"
    assert report["vector"]["round_index"] == 1


def test_a_compressor_that_fails_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [{"kind": f"{__name__}.Broken", "first": 1.0}]
    monkeypatch.setitem(frontier_settings.SETTINGS, "broken", broken)
    result = run("--dim", "100", "--only", "broken", "--against", "broken")
    assert result.exit_code == 1
    assert "Broken(first=1.0) failed: ProblemError: compressor Broken: KeyError" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--kind", "cauchy"], "--kind cauchy: known are ['gaussian', 'student-t'"),
        (["--only", "top-k"], "--only top-k: no line is called that"),
        (["--against", "edn"], "--against edn: no line is called that (did you mean 'eden'?)"),
        (["--against", "mlmc"], "--against mlmc: is a kind of several lines; give one of ['mlmc("),
        (["--gradient", "digits"], "--gradient digits: give a network of ['digits'"),
        (["--gradient", "lenet:3"], "--gradient lenet:3: give a network of"),
        (["--gradient", "digits:-1"], "--gradient digits:-1: give a network of"),
        (["--gradient", "digits:1", "--dim", "9"], "--dim 9: has no effect on --gradient digits:1"),
        (["--gradient", "digits:1", "--kind", "gaussian"], "--kind gaussian: has no effect on"),
        (["--gradient", "digits:1", "--step-size", "0"], "step_size is 0.0: give a positive"),
        (["--gradient", "digits:1", "--batch-size", "0"], "batch_size is 0: give"),
        (
            ["--gradient", "minilm:1", "--data-dir", "x"],
            "--data-dir x: has no effect on --gradient",
        ),
        (["--step-size", "0.1"], "--step-size 0.1: has no effect without --gradient"),
        (["--cache", "x"], "--cache x: has no effect without --gradient"),
        (["--json", "no/such/r.json"], "no/such/r.json: cannot be written: No such file"),
        (["--png", "rate.txt"], "rate.txt: give a name that ends in one of ['.png'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert text in result.output
    assert "Traceback" not in result.output


def test_networks_are_those_of_the_problems() -> None:
    for network in NETWORKS:
        assert (
            len(
                list(
                    TrainingGradient(network=network, round_index=0).problem().model().parameters()
                )
            )
            > 0
        )
    with pytest.raises(ValueError, match="network is 'lenet': give one of"):
        TrainingGradient(network="lenet", round_index=0)
