"""Links of the repository's pages: every file and heading that a page points to is there.

`make docs` runs it. It reads README.md, CHANGELOG.md and docs/; addresses on the web are not asked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.tools.source import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def pages(root: Path = ROOT) -> list[Path]:
    """Return the Markdown files whose links are checked."""
    return [root / "README.md", root / "CHANGELOG.md", *sorted(root.glob("docs/**/*.md"))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    titles = HEADING.findall(FENCE.sub("", page.read_text()))
    words = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {word.replace(" ", "-") for word in words}


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links, those in code left out."""
    for link, image in LINK.findall(CODE.sub("", FENCE.sub("", page.read_text()))):
        yield link or image


def broken_links(root: Path = ROOT) -> Iterator[str]:
    """Yield a line for each link whose file or heading is not there."""
    for page in pages(root):
        for link in links(page):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists():
                yield f"{page.relative_to(root)}: {link}: no such file"
            elif anchor and anchor not in anchors(target):
                yield f"{page.relative_to(root)}: {link}: no such heading in {target.name}"


def main() -> int:
    """Print the broken links; return 1 where there are any."""
    lines = list(broken_links())
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
