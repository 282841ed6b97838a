"""Pictures for the results of a page, from their runs and data sets."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from kvtool.datasets.base import DatasetBase, ImageRef
from kvtool.datasets.identity import check_pictures, dataset_of
from kvtool.datasets.images import load_image
from kvtool.errors import KvtoolError
from kvtool.pictures.heat import draw_heat
from kvtool.pictures.overlays import fit
from kvtool.pictures.thumbnails import Drawn, Thumbnails
from kvtool.reporting import KeptResult
from kvtool.reporting.cards import CARD_PX, Card, heat_of, items_shown
from kvtool.reporting.mapped import MappedPicture, VectorRoom, mapped_images
from kvtool.reporting.numbers import plural
from kvtool.reporting.study import ITEMS_SHOWN, Plate, QuestionText
from kvtool.result import Row
from kvtool.store import Run, Store
from kvtool.types import Block

PICTURE_BYTES = 4_500_000
"""The most bytes of all pictures of a page, as text."""
VECTOR_BYTES = 800_000
"""The most bytes of all vectors of a page, as text."""
IMAGE_PX = 224
"""Longer side of an image that stands for itself."""
WORDS_PX = 1600
"""Longer side of a picture with words."""
PLATES = 2
"""Images whose principal components are drawn for each result of `variance`."""


@dataclass
class RunPictures:
    """The runs of some stores, and their data sets, each opened once.

    `data` holds the places of data sets that moved, by name.
    """

    stores: Mapping[str, Store]
    data: Mapping[str, str | Path]
    _datasets: dict[tuple[str, str, str], DatasetBase] = field(default_factory=dict)

    def run(self, stored: KeptResult) -> Run:
        """Return the run of a result. Raises UsageError where the store lacks it."""
        return self.stores[stored.store].run(stored.run or "")

    def dataset(self, run: Run) -> DatasetBase:
        """Return the data set of a run. Raises KvtoolError where it is not there."""
        config = run.config
        path = self.data.get(config.dataset)
        key = (config.dataset, str(path or run.place or ""), config.split)
        if key in self._datasets:
            check_pictures(run, self._datasets[key])
        else:
            self._datasets[key] = dataset_of(run, path)
        return self._datasets[key]

    def infos(self) -> list[Row]:
        """Return Run.info() of every run, and what the commands of a page need besides."""
        rows = []
        for name, store in self.stores.items():
            for run in store.readable_runs():
                geometry = run.config.model.geometry
                sizes = {"kv_heads": geometry.kv_heads, "depth": geometry.layers}
                rows.append({"store": name, **run.info(), **sizes, "dataset_path": run.place})
        return rows


@dataclass
class Gathered:
    """Pictures for the results of a page, and a line for each result that has to do without."""

    source: RunPictures
    pictures: Thumbnails
    n_examples: int
    n_blocks: int
    device: str
    examples: dict[int, dict[Block, list[Drawn]]] = field(default_factory=dict)
    plates: dict[int, list[Plate]] = field(default_factory=dict)
    thumbnails: dict[tuple[str, str, str], Drawn] = field(default_factory=dict)
    questions: dict[tuple[int, str], QuestionText] = field(default_factory=dict)
    cards: dict[int, list[Card]] = field(default_factory=dict)
    maps: dict[int, list[MappedPicture]] = field(default_factory=dict)
    vectors: VectorRoom = field(default_factory=lambda: VectorRoom(VECTOR_BYTES))
    notes: list[str] = field(default_factory=list)

    def gather(self, position: int, stored: KeptResult) -> None:
        """Draw the pictures of one result.

        A result whose run or files do not exist any more has none, and a note says why.
        """
        make = {
            "probe": self._examples,
            "variance": self._components,
            "paired": self._questions,
            "sae": self._cards,
            "lens": self._words,
        }.get(stored.result.command)
        if make is None:
            return
        try:
            make(position, stored, self.source.run(stored))
        except (KvtoolError, OSError) as error:
            self.notes.append(
                f"No pictures for {stored.result.command} {stored.result.task or ''} of "
                f"{stored.run}: "
                f"{error}"
            )

    def all_notes(self) -> list[str]:
        """Return the notes, and one where pictures had to be left out."""
        limit = f"{PICTURE_BYTES / 1e6:.0f} MB"
        full = (
            f"{self.pictures.n_refused} pictures were left out: a page has {limit} of them at most."
        )
        notes = list(dict.fromkeys(self.notes)) + [full] * bool(self.pictures.n_refused)
        if self.vectors.n_refused:
            notes.append(
                f"{plural(self.vectors.n_refused, 'picture')} without a similarity map: a page has "
                f"{VECTOR_BYTES / 1e6:.1f} MB of vectors at most; kvtool serve shows all."
            )
        return notes

    def _examples(self, position: int, stored: KeptResult, run: Run) -> None:
        from kvtool.pictures.examples import draw_examples
        from kvtool.tasks.blocks import torch_device

        if self.n_examples:
            arguments = (
                stored.result,
                self.n_examples,
                self.n_blocks,
                torch_device(self.device),
                self.pictures,
            )
            self.examples[position] = draw_examples(run, self.source.dataset(run), *arguments)
            self._maps(position, stored, run)

    def _maps(self, position: int, stored: KeptResult, run: Run) -> None:
        """Add pictures with the vectors of the best block, of which the page shows maps."""
        best, images = stored.result.best, mapped_images(run)
        # A block of another run has no vectors here.
        if best is None or best.get("run") not in (None, stored.run) or not images:
            return
        block = Block(best["kind"], best["layer"], best["kv_head"])
        refs = {ref.id: ref for ref in self.source.dataset(run).images()}
        for image in images:
            picture = self.pictures.add(fit(load_image(refs[image]), IMAGE_PX), f"image {image}")
            mapped = None if picture is None else self.vectors.add(run, block, image, picture)
            if mapped is not None:
                self.maps.setdefault(position, []).append(mapped)

    def _components(self, position: int, stored: KeptResult, run: Run) -> None:
        from kvtool.pictures.components import draw

        kind = stored.result.config.get("kind", "key")
        # Pictures of one grid, so that their components can be set side by side.
        grid = run.samples[0].base(kind).grid
        ids = [sample.id for sample in run.samples if sample.base(kind).grid == grid][:PLATES]
        framed = {
            (row["layer"], row["kv_head"])
            for row in stored.result.rows
            if row.get("input_agnostic")
        }
        with tempfile.TemporaryDirectory(prefix="kvtool-report-") as folder:
            for image, path in zip(ids, draw(run, kind, ids, Path(folder), framed), strict=True):
                with Image.open(path) as sheet:
                    title = f"Principal components of every {kind} block, image {image}"
                    self._add_plate(position, sheet, title)
        # The images come last: where they moved, the components stay without them.
        try:
            self._add_originals(position, run, ids)
        except (KvtoolError, OSError) as error:
            self.notes.append(f"Components of {stored.run} stand without their images: {error}")

    def _add_originals(self, position: int, run: Run, ids: Sequence[str]) -> None:
        """Add the images beside drawings of them, where all of these had room."""
        refs = {ref.id: ref for ref in self.source.dataset(run).images()}
        plates = self.plates.get(position, [])
        if len(plates) == len(ids):
            originals = [
                self.pictures.add(fit(load_image(refs[image]), IMAGE_PX), f"image {image}")
                for image in ids
            ]
            self.plates[position] = [
                replace(plate, image=original)
                for plate, original in zip(plates, originals, strict=True)
            ]

    def _add_plate(self, position: int, drawing: Image.Image, title: str) -> None:
        """Add a drawing of a result, where there is room for it."""
        picture = self.pictures.add(drawing.convert("RGB"), title)
        if picture is not None:
            self.plates.setdefault(position, []).append(Plate(picture))

    def _questions(self, position: int, stored: KeptResult, run: Run) -> None:
        """Add the texts of the questions that the page shows, and their pictures: marked ones,
        else the images they are about."""
        # Questions that only the values answer right are those worth a look.
        items = [item for item in stored.result.items if item.get("cell") == "value_only"][
            :ITEMS_SHOWN
        ]
        marked = list(
            dict.fromkeys(str(name) for item in items for name in item.get("files") or ())
        )
        if marked:
            folder = self.source.stores[stored.store].pictures_dir(stored.result.config["pictures"])
            refs = {name: ImageRef(name, folder / name) for name in marked}
        else:
            refs = {ref.id: ref for ref in self.source.dataset(run).images()} if items else {}
        for name in marked or dict.fromkeys(
            str(image) for item in items for image in item["images"]
        ):
            picture = self.pictures.add(fit(load_image(refs[name]), IMAGE_PX), f"image {name}")
            if picture is not None:
                self.thumbnails[stored.store, str(stored.run), name] = picture
        if items:
            from kvtool.reporting.asked import question_texts

            texts = question_texts(stored.result, run, self.source.dataset(run))
            self.questions |= {(position, name): text for name, text in texts.items()}

    def _words(self, position: int, stored: KeptResult, run: Run) -> None:
        """Add pictures with the likeliest word on each patch, one for each image of the items."""
        from kvtool.pictures.words import draw_words

        items: dict[str, list[Row]] = {}
        for item in stored.result.items:
            items.setdefault(str(item["image"]), []).append(item)
        refs = {ref.id: ref for ref in self.source.dataset(run).images()} if items else {}
        for image, image_items in items.items():
            title = f"Likeliest words, image {image}"
            sheet = draw_words(load_image(refs[image]), run[image].sample, image_items, title)
            self._add_plate(position, fit(sheet, WORDS_PX), title)

    def _cards(self, position: int, stored: KeptResult, run: Run) -> None:
        """Add the pictures of the strongest features of some images, with their heat."""
        items = items_shown(stored.result)
        refs = {ref.id: ref for ref in self.source.dataset(run).images()} if items else {}
        for item in items:
            image = str(item["image"])
            cover_xyxy_px = run[image].sample.base().cover_xyxy_px
            heat = draw_heat(load_image(refs[image]), heat_of(item), cover_xyxy_px, CARD_PX)
            picture = self.pictures.add(heat, f"Feature {item['feature']} over image {image}")
            if picture is not None:
                self.cards.setdefault(position, []).append(Card(item, picture))
