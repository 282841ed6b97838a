"""`kvtool report`: one page about the results that stores keep, with pictures from their runs and
data sets.

No model is loaded. What does not exist any more (a run that was removed, a data set that moved) is
said on the page.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from kvtool.bounds import checked
from kvtool.display import Displayed, Facts, listing, shell_path
from kvtool.errors import UsageError
from kvtool.outputs import check_output, write_output
from kvtool.pictures.thumbnails import Thumbnails
from kvtool.progress import Progress, called
from kvtool.reporting import KeptResult, Study, choose, render
from kvtool.reporting.gather import PICTURE_BYTES, Gathered, RunPictures
from kvtool.result import versions
from kvtool.store import Store
from kvtool.store.places import places_of, without_places
from kvtool.store.select import StorePath, open_stores


@dataclass(frozen=True, repr=False)
class Page(Displayed):
    """What was written: where, how many bytes, of how many results and pictures, and what is
    missing."""

    path: Path
    n_bytes: int
    n_results: int
    n_pictures: int
    notes: tuple[str, ...]

    def _title(self) -> str:
        return f"Page {self.path}"

    def _facts(self) -> Facts:
        return {
            "bytes": decimal(self.n_bytes),
            "results": self.n_results,
            "pictures": self.n_pictures,
            "notes": f"{len(self.notes)}: {listing(self.notes)}" if self.notes else None,
        }


@checked
def report(
    stores: StorePath | Store | Sequence[StorePath | Store],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    examples: int = 4,
    blocks: int = 6,
    data: Mapping[str, str | Path] | None = None,
    device: str = "auto",
    progress: Progress | bool | None = None,
) -> Page:
    """Write a self-contained HTML page about all results that the stores keep.

    Probes of runs that another analysis added (a prefix's conditions) are on it as part of that
    analysis alone. Of several results of one command, run and task the page shows the one with most
    blocks and sampling units, of equals the newest. Raises UsageError where there is no result,
    StoreError where a path is no store or the page cannot be written.

    Args:
        stores: one store or several.
        path: the page's file.
        title: the page's title.
        examples: the number of pictures of predictions for each block of a probe; 0 for none.
        blocks: the number of best blocks with pictures.
        data: the places of data sets, by name, if they moved.
        device: the device of the predictions.
        progress: called with (results done, note), and once with their number as a third;
            True shows a bar.
    """
    if examples < 0 or blocks < 1:
        raise UsageError("report: expected examples of 0 or more and blocks of 1 or more")
    # Checked first: drawing all pictures takes long.
    check_output(path, "report")
    opened = {str(store.path): store for store in open_stores(stores)}
    results = choose(
        (name, record) for name, store in opened.items() for record in _own_results(store)
    )
    if not results:
        first = shell_path(next(iter(opened), "STORE"))
        raise UsageError(
            "report: expected results of an analysis, found none in "
            f"{', '.join(opened) or 'no store'}: run one first, e.g. kvtool probe {first} all"
        )
    # Pictures share one budget of bytes, whatever results they belong to.
    source = RunPictures(opened, data or {})
    pictures = Gathered(source, Thumbnails(PICTURE_BYTES), examples, blocks, device)
    _gather_all(results, pictures, called(progress))
    study = _study(title, results, source, pictures)
    # A page may be passed on: it names no folder of this machine.
    page = _without_places(render(study), list(opened.values()), results).encode()
    write_output(path, page, "report")
    return Page(Path(path), len(page), len(results), len(study.pictures), study.notes)


def _gather_all(results: Sequence[KeptResult], pictures: Gathered, progress: Progress) -> None:
    """Draw the pictures of all results."""
    progress(0, "", len(results))
    for position, stored in enumerate(results):
        pictures.gather(position, stored)
        progress(1, f"{stored.result.command} {stored.result.task or ''}".strip())


def _study(
    title: str | None, results: Sequence[KeptResult], source: RunPictures, pictures: Gathered
) -> Study:
    """Return all that the page shows."""
    return Study(
        title=title or "Report on image keys and values",
        origin=f"Made by kvtool {versions()['kvtool']} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        kept=tuple(results),
        runs=tuple(source.infos()),
        pictures=pictures.pictures.uris,
        examples=pictures.examples,
        plates=pictures.plates,
        thumbnails=pictures.thumbnails,
        questions=pictures.questions,
        cards=pictures.cards,
        maps=pictures.maps,
        notes=tuple(pictures.all_notes()),
    )


def _without_places(page: str, stores: Sequence[Store], results: Sequence[KeptResult]) -> str:
    """Replace the folders of this machine by their names alone: a page is written to be shared.

    The folders are those of the stores, their data sets, their models, and SAEs.
    """
    paths = places_of(run for store in stores for run in store.readable_runs())
    paths |= {str(store.path.absolute()) for store in stores}
    paths |= {path for stored in results for path in _sae_places(stored.result.config)}
    return without_places(page, paths, [store.path for store in stores])


def _sae_places(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folder of a result's SAEs, and the file that describes their features, where an
    older result names them in full."""
    saes = config.get("sae")
    paths = [Path(sae["path"]) for sae in saes] if isinstance(saes, list) else []
    if folders := [path.parent for path in paths if path.is_absolute()]:
        yield os.path.commonpath(folders)
    if Path(config.get("descriptions") or "").is_absolute():
        yield str(config["descriptions"])


def _own_results(store: Store) -> Iterator[Mapping[str, Any]]:
    added = set(store.runs()) - {run.name for run in store.first_runs()}
    for record in store.results():
        if record.get("command") != "probe" or record.get("config", {}).get("run") not in added:
            yield record
