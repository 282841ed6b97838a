"""`kvtool report`: one page about the results that stores keep, with pictures from their runs and
data sets.

No model is loaded. What cannot be had any more (a run that was removed, a data set that moved) is
said on the page.
"""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from kvtool.bounds import checked
from kvtool.datasets.base import DatasetBase, ImageRef
from kvtool.datasets.identity import check_pictures, dataset_of
from kvtool.datasets.images import load_image
from kvtool.errors import KvtoolError, UsageError
from kvtool.outputs import check_output, write_output
from kvtool.pictures.overlays import fit
from kvtool.pictures.thumbnails import Drawn, Pictures
from kvtool.reporting import KeptResult, Study, choose, render
from kvtool.reporting.study import ITEMS_SHOWN
from kvtool.result import Row, versions
from kvtool.store import Run, Store
from kvtool.store.select import StorePath, open_stores

PICTURE_BYTES = 4_500_000
"""What all pictures of a page may take together, as text."""
QUESTION_PX = 160
"""Longer side of a question's picture."""
SHEETS = 2
"""Images whose principal components are drawn for each result of `variance`."""

Progress = Callable[..., object]


@dataclass(frozen=True)
class Page:
    """What was written: where, how many bytes, of how many results and pictures, and what could not
    be had."""

    path: Path
    n_bytes: int
    n_results: int
    n_pictures: int
    notes: tuple[str, ...]


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
    progress: Progress | None = None,
) -> Page:
    """Write a self-contained HTML page about all results that the stores keep.

    Probes of runs that another analysis added (a prefix's conditions) are on it as part of that
    analysis alone. Of several results of one command, run and task the page shows the one with most
    blocks and sampling units, of equals the newest. examples: pictures of predictions for each
    block of a probe, of the `blocks` best ones; 0 for none. data: where data sets are now, by name,
    if not where they were extracted from. progress: called with (results done, note), and once with
    how many there are as a third.

    Raises UsageError where there is no result, StoreError where a path is no store or the page
    cannot be written.
    """
    if examples < 0 or blocks < 1:
        raise UsageError("report: expected examples of 0 or more and blocks of 1 or more")
    check_output(path, "report")
    opened = {str(store.path): store for store in open_stores(stores)}
    kept = choose(
        (name, record) for name, store in opened.items() for record in _own_results(store)
    )
    if not kept:
        first = next(iter(opened), "STORE")
        raise UsageError(
            "report: expected results of an analysis, found none in "
            f"{', '.join(opened) or 'no store'}: run one first, e.g. kvtool probe {first} all"
        )
    source = RunPictures(opened, data or {})
    pictures = Gathered(source, Pictures(PICTURE_BYTES), examples, blocks, device)
    if progress is not None:
        progress(0, "", len(kept))
    for position, one in enumerate(kept):
        pictures.gather(position, one)
        if progress is not None:
            progress(1, f"{one.result.command} {one.result.task or ''}".strip())
    study = Study(
        title=title or "Report on image keys and values",
        made=f"Made by kvtool {versions()['kvtool']} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        kept=tuple(kept),
        runs=tuple(source.infos()),
        pictures=pictures.pictures.uris,
        examples=pictures.examples,
        sheets=pictures.sheets,
        thumbnails=pictures.thumbnails,
        notes=tuple(pictures.all_notes()),
    )
    page = without_places(render(study), source).encode()
    write_output(path, page, "report")
    return Page(Path(path), len(page), len(kept), len(study.pictures), study.notes)


def without_places(page: str, source: RunPictures) -> str:
    """A page is made to be shared: in place of a folder of this machine it has the folder's name
    alone.

    The folders are those of the stores, their data sets and their models, as they stand in HTML and
    in JSON.
    """
    places = {str(Path.home()), str(Path.cwd())}
    for store in source.stores.values():
        places.add(str(store.path.absolute()))
        for run in store.readable_runs():
            places |= {run.place or "", run.config.dataset_path or "", run.config.model.name}
    names = Counter(store.path.name for store in source.stores.values())
    for place in sorted(
        (name for name in places if name.startswith("/") and len(name) > 1), key=len, reverse=True
    ):
        name = Path(place).name
        if names[name] > 1:  # stores of one name in several folders
            name = f"{Path(place).parent.name}/{name}"
        for written in dict.fromkeys((place, html.escape(place), json.dumps(place)[1:-1])):
            page = page.replace(written, name)
    return page


def _own_results(store: Store) -> Iterator[Mapping[str, Any]]:
    added = set(store.runs()) - {run.name for run in store.first_runs()}
    for record in store.results():
        if record.get("command") != "probe" or record.get("config", {}).get("run") not in added:
            yield record


@dataclass
class RunPictures:
    """The runs of some stores, and their data sets, each opened once. data: where data sets are
    now."""

    stores: Mapping[str, Store]
    data: Mapping[str, str | Path]
    _datasets: dict[tuple[str, str, str], DatasetBase] = field(default_factory=dict)

    def run(self, kept: KeptResult) -> Run:
        """Raises UsageError where the store lacks it."""
        return self.stores[kept.store].run(kept.run or "")

    def dataset(self, run: Run) -> DatasetBase:
        """Raises KvtoolError where it is not there."""
        config = run.config
        place = self.data.get(config.dataset)
        key = (config.dataset, str(place or run.place or ""), config.split)
        if key in self._datasets:
            check_pictures(run, self._datasets[key])
        else:
            self._datasets[key] = dataset_of(run, place)
        return self._datasets[key]

    def infos(self) -> list[Row]:
        """Run.info() of every run, and what the commands of a page need besides."""
        found = []
        for name, store in self.stores.items():
            for run in store.readable_runs():
                more = {"kv_heads": run.config.model.geometry.kv_heads, "dataset_path": run.place}
                found.append({"store": name, **run.info(), **more})
        return found


@dataclass
class Gathered:
    """Pictures for the results of a page, and a line for each result that has to do without."""

    source: RunPictures
    pictures: Pictures
    n_examples: int
    n_blocks: int
    device: str
    examples: dict[int, dict[Any, list[Drawn]]] = field(default_factory=dict)
    sheets: dict[int, list[Drawn]] = field(default_factory=dict)
    thumbnails: dict[tuple[str, str, str], Drawn] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def gather(self, position: int, kept: KeptResult) -> None:
        """The pictures of one result; a result whose run or files are gone has none, and a note
        says why."""
        make = {"probe": self._examples, "variance": self._sheets, "paired": self._questions}.get(
            kept.result.command
        )
        if make is None:
            return
        try:
            make(position, kept, self.source.run(kept))
        except (KvtoolError, OSError) as error:
            self.notes.append(
                f"No pictures for {kept.result.command} {kept.result.task or ''} of {kept.run}: "
                f"{error}"
            )

    def all_notes(self) -> list[str]:
        most = f"{PICTURE_BYTES / 1e6:.0f} MB"
        full = (
            f"{self.pictures.n_refused} pictures were left out: a page has {most} of them at most."
        )
        return list(dict.fromkeys(self.notes)) + [full] * bool(self.pictures.n_refused)

    def _examples(self, position: int, kept: KeptResult, run: Run) -> None:
        from kvtool.pictures.examples import draw_examples
        from kvtool.tasks.blocks import torch_device

        if self.n_examples:
            of = (
                kept.result,
                self.n_examples,
                self.n_blocks,
                torch_device(self.device),
                self.pictures,
            )
            self.examples[position] = draw_examples(run, self.source.dataset(run), *of)

    def _sheets(self, position: int, kept: KeptResult, run: Run) -> None:
        from kvtool.pictures.components import draw

        kind = kept.result.config.get("kind", "key")
        grid = run.samples[0].base(kind).grid
        ids = [sample.id for sample in run.samples if sample.base(kind).grid == grid][:SHEETS]
        framed = {
            (row["layer"], row["kv_head"]) for row in kept.result.rows if row.get("input_agnostic")
        }
        with tempfile.TemporaryDirectory(prefix="kvtool-report-") as folder:
            for image, path in zip(ids, draw(run, kind, ids, Path(folder), framed), strict=True):
                with Image.open(path) as sheet:
                    drawn = self.pictures.add(
                        sheet.convert("RGB"),
                        f"Principal components of every {kind} block, image {image}",
                    )
                if drawn is not None:
                    self.sheets.setdefault(position, []).append(drawn)

    def _questions(self, _position: int, kept: KeptResult, run: Run) -> None:
        """Thumbnails of the questions that the page shows: their marked pictures, else the images
        they are about."""
        shown = [item for item in kept.result.items if item.get("cell") == "value_only"][
            :ITEMS_SHOWN
        ]
        marked = list(
            dict.fromkeys(str(name) for item in shown for name in item.get("files") or ())
        )
        if marked:
            folder = self.source.stores[kept.store].pictures_dir(kept.result.config["pictures"])
            refs = {name: ImageRef(name, folder / name) for name in marked}
        else:
            refs = {ref.id: ref for ref in self.source.dataset(run).images()} if shown else {}
        for name in marked or dict.fromkeys(str(one) for item in shown for one in item["images"]):
            drawn = self.pictures.add(fit(load_image(refs[name]), QUESTION_PX), f"image {name}")
            if drawn is not None:
                self.thumbnails[kept.store, str(kept.run), name] = drawn
