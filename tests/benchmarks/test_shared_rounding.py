"""What the benchmark of rounding by shared thresholds says."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.shared_rounding import COLUMNS, main, times
from mlmc_ray.compressors import SharedThresholds
from mlmc_ray.payloads import Message
from mlmc_ray.wire import encode


def test_times_are_of_the_frame_that_is_named() -> None:
    vector = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    compressor = SharedThresholds(rms=10.0)
    found = times(compressor, vector, 2)
    assert found["bytes"] == len(encode(Message({"v": compressor.with_seed(vector, 1)})))
    assert all(found[column] > 0 for column in ("copy", *COLUMNS))
    assert found["compress and encode"] == found["compress"] + found["encode"]


def test_results_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads, path = torch.get_num_threads(), tmp_path / "results.json"
    try:
        main(dim=3000, repeats=1, json_path=path)
    finally:
        torch.set_num_threads(threads)
    results = json.loads(path.read_text(encoding="utf-8"))
    assert len(results["seconds"]) == 6
    assert "copies of 3,000 entries" in capsys.readouterr().out
