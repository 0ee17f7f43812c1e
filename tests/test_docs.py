"""The documentation is true: its blocks run, its links lead somewhere, its site is built."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pages import (
    PAGES,
    ROOT,
    Block,
    blocks_of,
    check_command,
    check_configuration,
    commands_of,
    links_of,
    run_command,
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _on_ray(page: Path) -> bool:
    return any("ray" in block.words.split() for block in blocks_of(page))


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetting: None) -> None:
    """A directory of its own; what is imported from it is forgotten in the end."""
    for name in ("configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_true(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python" and not {"ray", "tracking"} & {*block.words.split()}:
            _run(block, page, names, capsys)
        _check(block)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster", "_elsewhere")
@pytest.mark.parametrize("page", [page for page in PAGES if _on_ray(page)], ids=name_of)
def test_blocks_on_ray_are_true(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks_of(page):
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif "ray" in block.words.split():
            _run(block, page, {}, capsys)


def _run(
    block: Block, page: Path, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(block.text, name_of(page), "exec"), names)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = [line for line in lines if "(raylet)" not in line]  # what Ray says of lost processes
    assert block.printed in (None, shown)


def _check(block: Block) -> None:
    if block.language == "yaml":
        check_configuration(block.text, block.title)
    for words in commands_of(block) if block.language == "console" else []:
        check_command(words)
        if block.run and words[0] == "cd":
            os.chdir(words[1])
        elif block.run:
            run_command(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    links = links_of(page)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    for package in ("material", "mkdocstrings", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="needs the extra docs: pip install 'mlmc-ray[docs]'")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(directory)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return directory


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in PAGES[1:]}
    assert [str(page) for page in pages if not (site / page).exists()] == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        link = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert f'href="{link}"' in index, link


def test_links_of_the_site_lead_to_files(site: Path) -> None:
    address = re.compile(r'<a [^>]*href="(?!https?:)([^"#]+)')
    dead = [
        f"{page.relative_to(site)}: {link}"
        for page in site.rglob("*.html")
        if page.name != "404.html"  # which is served in any place, and so has absolute links
        for link in address.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    ]
    assert dead == []


def test_the_site_asks_nobody_else_for_anything(site: Path) -> None:
    asks = re.compile(
        r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"?(?:https?:)?//[^>]*>"
        r"|<link\b(?=[^>]*\brel=\"?(?:stylesheet|preconnect|icon|preload|dns-prefetch))"
        r"[^>]*\bhref=\"?(?:https?:)?//[^>]*>"
    )
    styles = re.compile(r"@import[^;]*//|url\([\"']?(?:https?:)?//[^)]*\)")
    found = {
        str(path.relative_to(site)): hit[0]
        for pattern, expression in (("*.html", asks), ("*.html", styles), ("*.css", styles))
        for path in site.rglob(pattern)
        if (hit := expression.search(path.read_text(encoding="utf-8")))
    }
    assert found == {}
