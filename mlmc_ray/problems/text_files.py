"""Sentences of movie reviews and whether they are favourable, read from local files.

Sources: C. Hutto and E. Gilbert, VADER, ICWSM 2014, after B. Pang and L. Lee, 2004: their rated
sentences come with mlmc_ray, and ``movie_reviews/README.md`` tells how; R. Socher et al., the
Stanford Sentiment Treebank, EMNLP 2013, as SST-2 in A. Wang et al., GLUE, 2018, arXiv:1804.07461.
"""

import csv
import io
import lzma
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlmc_ray.errors import ProblemError, one_line

SNIPPETS = Path(__file__).with_name("movie_reviews") / "sentences.tsv.xz"
"""The rated sentences, packed, in the format of SST-2."""

_HEADER = ["sentence", "label"]
_LABELS = ("0", "1")
_PARTS = ("train", "validation", "dev")
_GLUE = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
_DAMAGED = (EOFError, LookupError, OSError, RuntimeError, ValueError, csv.Error, lzma.LZMAError)
"""What reading raises for files that are damaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentences:
    """Sentences, and for each 1 if it is favourable, else 0."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


def rated_snippets() -> Sentences:
    """Return the rated sentences that come with mlmc_ray: 5,242 favourable and 5,326 others.

    Raises:
        ProblemError: the file is not there, or it is damaged.
    """
    try:
        return _parsed([lzma.decompress(SNIPPETS.read_bytes())])
    except _DAMAGED as error:
        raise ProblemError(
            f"MovieReviews: cannot read {SNIPPETS} ({type(error).__name__}: {one_line(error)}), "
            "which comes with mlmc_ray: install mlmc_ray again"
        ) from error


def _parsed(contents: Iterable[bytes]) -> Sentences:
    """Read tables as GLUE has them: sentence and label, a tab between them, in UTF-8.

    Args:
        contents: of the files.

    Raises:
        ValueError: a line is another, or there is no sentence; says which.
    """
    texts, labels = [], []
    for content in contents:
        text = io.StringIO(content.decode("utf-8"), newline="")
        lines = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
        if (first := next(lines, [])) != _HEADER:
            raise ValueError(f"line 1 is {first}: expected {_HEADER}, with a tab between them")
        for fields in lines:
            if len(fields) != 2 or fields[1] not in _LABELS:
                raise ValueError(
                    f"line {lines.line_num} is {fields}: expected a sentence, a tab, and 0 or 1"
                )
            texts.append(fields[0])
            labels.append(int(fields[1]))
    if not texts:
        raise ValueError("there is no sentence")
    return Sentences(texts=tuple(texts), labels=tuple(labels))


def sst2(data_dir: str | Path | None, download: bool) -> tuple[Sentences, Sentences]:
    """Return the training and the validation part of SST-2: 67,349 and 872 sentences.

    Args:
        data_dir: holds ``train`` and ``validation`` (or ``dev``) as .tsv, as in GLUE's archive, or
            as .parquet, as on the Hugging Face hub, which the library datasets reads; by default
            what that library keeps in its cache.
        download: fetch what is not in the cache.

    Raises:
        ProblemError: the library or the data are not there, or a file is damaged.
    """
    if data_dir is None:
        return _from_library(None, download)
    directory = Path(data_dir).expanduser().absolute()
    if tables := _files(directory, ".tsv"):
        try:
            train, test = (_parsed(map(Path.read_bytes, files)) for files in tables.values())
        except _DAMAGED as error:
            raise _unreadable(directory, error) from error
        return train, test
    if packed := _files(directory, ".parquet"):
        return _from_library(packed, download)
    raise ProblemError(
        f"MovieReviews: there is no SST-2 in {directory}: expected train.tsv and dev.tsv, or "
        f"train*.parquet and validation*.parquet as in nyu-mll/glue: run {_fetching(directory)}, "
        "or leave data_dir out and give download: true"
    )


def _files(directory: Path, ending: str) -> dict[str, list[Path]]:
    """Return the files of the training and the validation part; none where one part lacks."""
    train, *held_out = (sorted(directory.glob(f"{name}*{ending}")) for name in _PARTS)
    test = next(filter(None, held_out), [])
    return {"train": train, "validation": test} if train and test else {}


def _from_library(
    files: dict[str, list[Path]] | None, download: bool
) -> tuple[Sentences, Sentences]:
    """Return both parts from .parquet files, or without from the cache of the library datasets."""
    try:
        import datasets
    except ImportError as error:
        raise ProblemError(
            f"MovieReviews: data is 'sst-2', which needs the package 'datasets', and it cannot be "
            f"imported ({one_line(error)}): pip install 'mlmc-ray[glue]', or give data_dir, a "
            f"directory with train.tsv and dev.tsv, after {_fetching(Path('DIRECTORY'))}"
        ) from error
    try:
        with _offline(datasets, not download):
            if files is None:
                parts = datasets.load_dataset("nyu-mll/glue", "sst2")
            else:
                names = {part: list(map(str, paths)) for part, paths in files.items()}
                parts = datasets.load_dataset("parquet", data_files=names)
        train, test = (
            Sentences(texts=tuple(part["sentence"]), labels=tuple(map(int, part["label"])))
            for part in (parts["train"], parts["validation"])
        )
    except (*_DAMAGED, datasets.exceptions.DatasetsError) as error:
        if files is not None:
            raise _unreadable(files["train"][0].parent, error) from error
        raise ProblemError(
            f"MovieReviews: datasets finds no SST-2 in its cache ({type(error).__name__}: "
            f"{one_line(error)}): give download: true, or data_dir, a directory with train.tsv and "
            f"dev.tsv, after {_fetching(Path('DIRECTORY'))}"
        ) from error
    return train, test


def _unreadable(directory: Path, error: Exception) -> ProblemError:
    return ProblemError(
        f"MovieReviews: cannot read SST-2 in {directory} ({type(error).__name__}: "
        f"{one_line(error)}): delete its files and run {_fetching(directory)}"
    )


def _fetching(directory: Path) -> str:
    """Return the command that fetches SST-2 and leaves train.tsv and dev.tsv in a directory."""
    place = shlex.quote(str(directory))
    return f"curl -LO {_GLUE} && unzip -j SST-2.zip SST-2/train.tsv SST-2/dev.tsv -d {place}"


@contextmanager
def _offline(datasets: Any, offline: bool) -> Iterator[None]:
    """Keep the library datasets from the network for a while."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
