"""Tables of the documentation, and what the benchmarks measure."""

import io
import json

import pytest
import torch
from rich.console import Console

from benchmarks.index_sets import coded
from benchmarks.tables import TABLES, codecs, replaced
from launch.benching.bench import bench_codecs
from launch.benching.codec_report import report
from mlmc_ray.compressors import Compressor, TopK
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import FixedPointLadder
from mlmc_ray.laws import OwnLaw


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_the_files_of_results(name: str) -> None:
    path, page = TABLES[name].written(name)
    assert path.read_text(encoding="utf-8") == page


def test_a_table_stands_between_its_marks() -> None:
    page = "a\n<!-- x -->\nold\nolder\n<!-- end of x -->\nb\n"
    assert replaced(page, "x", ["new"]) == "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n"
    with pytest.raises(ValueError, match="no <!-- y --> with <!-- end of y -->"):
        replaced(page, "y", ["new"])


def test_rows_of_codecs_say_what_their_means_are_over() -> None:
    estimator = MLMC(ladder=FixedPointLadder(), law=OwnLaw())
    compressors: list[Compressor] = [TopK(k=0.01), TopK(k=0.5), estimator]
    vector = torch.randn(500, generator=torch.Generator().manual_seed(0))
    found = bench_codecs(compressors, vector, 2, Console(file=io.StringIO()))
    lines = codecs(json.loads(json.dumps(report(found, 500, "gaussian"))))
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "`top-k(k=0.01)`",
        "`mlmc(ladder=fixed-point, law=own)`",
    ]
    assert lines[2].endswith("| 2 drawn |")
    assert "| all " in lines[3]
    assert len({line.count("|") for line in lines}) == 1


def test_an_index_set_takes_about_the_ideal() -> None:
    assert 1 <= coded(100_000, [0.01], 0)["over_ideal"] < 1.05
    halves = coded(100_000, [0.01, 0.1], 0)
    assert 1 <= halves["over_ideal"] < 1.05
    assert halves["bytes"] < coded(100_000, [0.055], 0)["bytes"]
