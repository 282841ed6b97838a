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

from markupsafe import escape

from kvtool.display import unlike_flag

if TYPE_CHECKING:
    from kvtool.store.run import Run

IN_HTML = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'"}
"""How JSON inside HTML spells what could end its element."""


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
    # The root and relative names stand for nothing, and would hit words of other meaning.
    absolute = (path for path in paths if path.startswith("/") and len(path) > 1)
    # Longer paths first: a folder within another has its own name.
    for path in sorted(absolute, key=len, reverse=True):
        name = "~" if path == str(Path.home()) else folder_name(path)  # else it is the user's
        if names[name] > 1:
            name = f"{Path(path).parent.name}/{name}"
        name = unlike_flag(name)  # it may stand in a command
        for spelling, short in _spellings(path, name):
            text = text.replace(spelling, short)
    return text


def folder_name(name: str) -> str:
    """Return the last part of a path from the root; any other name, such as a model's on the hub,
    as it is.
    """
    return Path(name).name if name.startswith("/") else name


def _spellings(path: str, name: str) -> Iterator[tuple[str, str]]:
    """A path and its name as they stand in plain text, in HTML and in JSON, with other letters than
    ASCII as they are or escaped, and in JSON inside HTML; and so within the quotes of a shell.
    """
    for long, short in ((path, name), (_in_shell(path), _in_shell(name))):
        yield long, short
        yield html.escape(long), html.escape(short)
        yield str(escape(long)), str(escape(short))  # HTML whose quotes are numbers
        yield _in_json(long), _in_json(short)
        yield json.dumps(long)[1:-1], _in_json(short)
        yield _in_json(long).translate(IN_HTML), _in_json(short).translate(IN_HTML)


def _in_shell(text: str) -> str:
    """Return a text as shlex quotes it, without the quotes around it."""
    return text.replace("'", "'\"'\"'")


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
