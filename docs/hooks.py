"""What the pages say differently on the site than in the repository.

Links to files outside of ``docs`` lead to copies of these files in the site, so that it is whole
without the repository.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\]\(((?:\.\./)+)([^)#]+)\)")
_WORD_AFTER_LANGUAGE = re.compile(r"^```python \w+$", flags=re.MULTILINE)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files outside of ``docs`` that pages link to, below ``files/``."""
    for page in list(files.documentation_pages()):
        for up, name in _LINK.findall(page.content_string):
            place = f"files/{name}"
            known = files.get_file_from_path(place)
            if _leaves_docs(up, page.src_uri) and known is None and (_ROOT / name).is_file():
                files.append(File.generated(config, place, abs_src_path=str(_ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Let links lead to the copies, and leave out words after the language of a block."""

    def copied(link: re.Match[str]) -> str:
        up, name = link.groups()
        place = page.file.src_uri
        return f"]({'../' * place.count('/')}files/{name})" if _leaves_docs(up, place) else link[0]

    return _WORD_AFTER_LANGUAGE.sub("```python", _LINK.sub(copied, markdown))


def _leaves_docs(up: str, page: str) -> bool:
    return up.count("../") > page.count("/")
