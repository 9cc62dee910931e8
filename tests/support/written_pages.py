"""The Markdown pages of the repository, taken apart: blocks of code, tables, links.

What stands in a comment before a block or a table says what it is to the tests, and is not shown to
readers: ``<!-- file: models.yaml -->``, ``<!-- keys of: Ledger -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
"""What is written for users, from the repository's root."""

_MARK = re.compile(r"<!-- *([a-z ]+?): *(.*?) *-->")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: what it says, and where; ``line`` counts from 1."""

    page: str
    line: int
    language: str
    text: str
    marks: Mapping[str, str]

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the text of its cells, as written."""

    page: str
    line: int
    marks: Mapping[str, str]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, title: str) -> list[str]:
        """Return a column's cells without their backticks."""
        place = self.head.index(title)
        return [row[place].strip("`") for row in self.rows]


@cache
def source_of(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def read_blocks(page: str) -> list[Block]:
    """Return a page's blocks of code in order."""
    return [
        Block(page, token.map[0] + 1, token.info.strip(), token.content, marks)
        for token, marks, _ in _pieces(page)
        if token.type == "fence" and token.map is not None
    ]


def read_tables(page: str) -> list[Table]:
    """Return a page's tables in order."""
    found: list[Table] = []
    for token, marks, inside in _pieces(page):
        if token.type == "table_open" and token.map is not None:
            rows: list[list[str]] = []
            for part in inside:
                if part.type == "tr_open":
                    rows.append([])
                elif part.type == "inline":
                    rows[-1].append(part.content)
            head, *body = (tuple(row) for row in rows)
            found.append(Table(page, token.map[0] + 1, marks, head, tuple(body)))
    return found


def headings(page: str) -> list[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    tokens = _parse(source_of(page))
    texts = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    return [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts]


def links(page: str) -> list[str]:
    """Return what a page links to."""
    return [
        str(child.attrs["href"])
        for token in _parse(source_of(page))
        for child in token.children or ()
        if child.type == "link_open"
    ]


def prose(page: str) -> list[str]:
    """Return a page's paragraphs and items as plain text, one line each; tables left out."""
    tokens = _parse(source_of(page))
    found: list[str] = []
    depth = 0
    for token in tokens:
        depth += {"table_open": 1, "table_close": -1}.get(token.type, 0)
        if token.type == "inline" and not depth:
            found.append(" ".join(token.content.split()))
    return found


@cache
def _parse(source: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(source)


def _pieces(page: str) -> Iterator[tuple[Token, dict[str, str], list[Token]]]:
    """Yield each fence and table with the marks before it, and what is inside of it."""
    tokens = _parse(source_of(page))
    marks: dict[str, str] = {}
    for index, token in enumerate(tokens):
        if token.level:
            continue
        if token.type == "html_block":
            marks |= dict(_MARK.findall(token.content))
            continue
        if token.type in ("fence", "table_open"):
            end = next(
                (i for i in range(index, len(tokens)) if tokens[i].type == "table_close"), index
            )
            yield token, marks, tokens[index:end]
        marks = {}
