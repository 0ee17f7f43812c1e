"""The notebook in ``examples`` runs from top to bottom and prints what it shows.

After a change of it, ``python -m tests.test_notebook`` writes its outputs anew.
"""

import re
from pathlib import Path
from typing import Any

import pytest

_NOTEBOOK = Path(__file__).parents[1] / "examples" / "scaling.ipynb"
_MOST_PNG_BYTES = 100_000
_TIMEOUT_S = 300
_NUMBER = re.compile(r"[ \d.]*\d")  # training rounds differently on other processors


def executed(notebook: Any) -> Any:
    """Return the notebook with the outputs of a run, and nothing that differs between runs."""
    from nbclient import NotebookClient

    place = {"metadata": {"path": str(_NOTEBOOK.parent)}}
    client = NotebookClient(
        notebook, timeout=_TIMEOUT_S, kernel_name="python3", record_timing=False, resources=place
    )
    metadata = dict(notebook.metadata)
    client.execute()
    notebook.metadata = metadata
    return notebook


def printed(notebook: Any) -> list[str]:
    """Return what every cell prints, without descriptions of pictures."""
    return ["".join(map(_text_of, cell.get("outputs", []))) for cell in notebook.cells]


def _text_of(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    data = output.get("data", {})
    return "" if "image/png" in data else str(data.get("text/plain", output.output_type))


@pytest.fixture
def notebook() -> Any:
    reason = "needs the extra notebook: pip install 'mlmc-ray[notebook]'"
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason=reason)
    import nbformat

    return nbformat.read(_NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages
@pytest.mark.slow
def test_it_prints_what_it_shows(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    shown = printed(notebook)
    found = printed(executed(notebook))
    assert [_NUMBER.sub("#", text) for text in found] == [_NUMBER.sub("#", text) for text in shown]


def test_its_pictures_are_small(notebook: Any) -> None:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [data["image/png"] for o in outputs if "image/png" in (data := o.get("data", {}))]
    assert len(pictures) == 3
    assert max(len(picture) * 3 / 4 for picture in pictures) < _MOST_PNG_BYTES


def test_no_output_is_an_error(notebook: Any) -> None:
    kinds = {o.output_type for cell in notebook.cells for o in cell.get("outputs", [])}
    assert kinds <= {"stream", "display_data", "execute_result"}


if __name__ == "__main__":
    import nbformat

    made = executed(nbformat.read(_NOTEBOOK, as_version=4))  # type: ignore[no-untyped-call]
    nbformat.write(made, _NOTEBOOK)  # type: ignore[no-untyped-call]
