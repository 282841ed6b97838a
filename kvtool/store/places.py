"""What a file that is made to be shared says of this machine: the names of folders, and never where
they are.

Made to be shared are the page of `report`, pictures and figures (`show`, `--plot`), and the folders
and files of `--save-predictions`, `--answers` and `--official`. What a command prints is its user's
own, and keeps paths.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvtool.store.run import Run


def places_of(runs: Iterable[Run]) -> set[str]:
    """Folders that runs name: of their stores, data sets and models; and the user's home and
    working folder.
    """
    paths = {str(Path.home()), str(Path.cwd())}
    for run in runs:
        config = run.config
        paths.add(str(Path(run.store).absolute()))
        paths |= {run.place or "", config.dataset_path or "", config.model.name}
    return paths


def without_places(text: str, paths: Iterable[str], stores: Sequence[Path] = ()) -> str:
    """Return a text, of HTML or JSON too, that has the folders' names in place of their paths.

    stores: those of one name in several folders are told apart by the folder that they are in.
    """
    names = Counter(store.name for store in stores)
    absolute = (path for path in paths if path.startswith("/") and len(path) > 1)
    for path in sorted(absolute, key=len, reverse=True):
        name = "~" if path == str(Path.home()) else folder_name(path)  # else it is the user's
        if names[name] > 1:
            name = f"{Path(path).parent.name}/{name}"
        for spelling in _spellings(path):
            text = text.replace(spelling, name)
    return text


def folder_name(name: str) -> str:
    """Return the last part of a path from the root; any other name, such as a model's on the hub,
    as it is.
    """
    return Path(name).name if name.startswith("/") else name


def _spellings(path: str) -> Iterator[str]:
    """As it stands in plain text, in HTML and in JSON, with other letters than ASCII as they are or
    escaped.
    """
    quoted = (json.dumps(path, ensure_ascii=ascii)[1:-1] for ascii in (False, True))
    yield from dict.fromkeys((path, html.escape(path), *quoted))
