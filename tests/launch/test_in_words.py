"""Names of Python's classes in errors, as a configuration has them."""

import pytest

from launch.pages.in_words import in_words, kind_of
from mlmc_ray.compressors import TopK
from mlmc_ray.estimator import MLMC
from mlmc_ray.ladders import TopKLadder
from mlmc_ray.laws import AdaptiveLaw
from mlmc_ray.methods import AsyncSGD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f"no omega is known of {TopK(k=6)}: give",
            "no omega is known of {kind: top-k, k: 6}: give",
        ),
        (
            f"{MLMC(ladder=TopKLadder(), law=AdaptiveLaw())} is",
            "{kind: mlmc, ladder: top-k} is",
        ),
        ("method is DataParallelSGD(): where", "method is sgd: where"),
        ("no step size is known for DASHAPP: give", "no step size is known for dasha-pp: give"),
        ("known for ErrorFeedback", "known for ef"),
        ("cannot import 'TopK' of my.TopK(k=6)", "cannot import 'TopK' of my.TopK(k=6)"),
        ("TopK(k=6 is cut off", "TopK(k=6 is cut off"),
    ],
)
def test_classes_of_the_catalogue_are_called_by_their_kind(text: str, words: str) -> None:
    assert in_words(text) == words
    assert in_words(words) == words


def test_an_object_has_the_kind_of_its_class() -> None:
    class TopK:
        """Another one."""

    assert kind_of(AsyncSGD()) == "async-sgd"
    assert kind_of(TopK()).endswith("TopK")
