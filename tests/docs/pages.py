"""The documentation as data: its pages, code blocks and tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# A block may be marked for a test by a comment that the pages do not show: "% run: name".
_BLOCK = re.compile(
    r"^(?:% run: (?P<mark>\S+)\n\n)?(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.M
)


@dataclass(frozen=True)
class Block:
    """A fenced code block: its page, language, text, and the mark before it, if any."""

    page: str
    language: str
    code: str
    mark: str | None


def read_page(name: str) -> str:
    """Return the source of a page, such as ``reference/settings``."""
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def list_pages() -> list[str]:
    """Return the names of all pages."""
    return sorted(
        path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts
    )


def find_blocks(language: str | None = None) -> list[Block]:
    """Return the code blocks of all pages, of one language or of all."""
    found = []
    for page in list_pages():
        for match in _BLOCK.finditer(read_page(page)):
            indent = match["indent"]
            code = "\n".join(line.removeprefix(indent) for line in match["code"].splitlines()) + "\n"
            found.append(Block(page, match["language"], code, match["mark"]))
    return [block for block in found if language in (None, block.language)]


def read_table(page: str, header: str) -> list[list[str]]:
    """Return the rows of the tables of a page whose header line begins with ``header``."""
    rows, is_inside = [], False
    for line in read_page(page).splitlines():
        if line.startswith(header):
            is_inside = True
        elif not line.startswith("|"):
            is_inside = False
        elif is_inside and not line.startswith("| ---"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    assert rows, f"{page} has no table {header!r}"
    return rows


def codes_in(text: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", text)
