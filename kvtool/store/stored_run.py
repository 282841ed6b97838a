"""A run as it is read: by (kind, layer, kv_head), by image, or as plain Zarr arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from kvtool.digests import digest_texts
from kvtool.display import Displayed, Facts, listing, numbers
from kvtool.errors import StoreError
from kvtool.store.blocks import BlockValues, PartSlice
from kvtool.store.doors import ZarrPart, open_arrays
from kvtool.store.encoding import Bits
from kvtool.store.image import RunImage
from kvtool.store.parts import Picture, pictures_by_index
from kvtool.store.reader import PartsReader
from kvtool.store.run_parts import RunParts
from kvtool.store.texts import TextSet
from kvtool.store.tokens import Numbers, TokenChoice, Tokens, choose, token_table
from kvtool.text_templates import DEFAULT
from kvtool.types import HIDDEN, Kind, ModelInfo, Sample


@dataclass(repr=False)
class StoredRun(Displayed, RunParts):
    """What a run holds.

    It reads the images that were committed when it first looked, so that all blocks have the same;
    refresh() looks again. As a collection it is one of image ids: `len(run)`, `for id in run`,
    `run["id"]`.
    """

    @property
    def model(self) -> ModelInfo:
        """The model whose vectors are stored."""
        return self.config.model

    @property
    def dataset(self) -> str:
        """The data set's name, e.g. "spair71k"."""
        return self.config.dataset

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of vectors that are stored."""
        return self.config.kinds

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder's layers that are stored, by the model's numbers; those of linear attention,
        and those that read another layer's keys and values, only where `hidden` is stored.
        """
        return self.config.layers if HIDDEN in self.kinds else self.config.cached_layers

    @property
    def kv_heads(self) -> range:
        """The numbers of the decoder's key and value heads, from 0 on; all of them are stored.
        Where layers differ, those of the layer that has most; see heads.
        """
        return range(self.config.model.geometry.kv_heads)

    def heads(self, layer: int) -> range:
        """Return the numbers of a layer's key and value heads; none of a layer that has none."""
        return range(self.config.model.geometry.shape(layer)[0])

    @property
    def samples(self) -> list[Sample]:
        """All committed images, by dataset index."""
        return [entry.sample for entry in self._reader.places.values()]

    @property
    def views(self) -> list[Sample]:
        """The images, or all frames of the videos, each with the tokens that show it."""
        return list(self._reader.views)

    @property
    def ids(self) -> list[str]:
        """The ids of all committed images, by dataset index."""
        return list(self._reader.places)

    @property
    def pictures(self) -> list[Picture]:
        """The identity of each image that the run reads, by index; no array is read."""
        return pictures_by_index(self._reader.parts)

    def __len__(self) -> int:
        """Return how many images the run holds."""
        return len(self._reader.places)

    def __bool__(self) -> bool:
        """Return True: a run without an image is a run."""
        return True

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the images, by dataset index."""
        return iter(self.ids)

    def __contains__(self, image: object) -> bool:
        """Return whether an image of this id is stored."""
        return image in self._reader.places

    def __getitem__(self, image: str) -> RunImage:
        """Return the image of this id, as image() does."""
        return self.image(image)

    def image(self, image: str) -> RunImage:
        """Return the image of this id, from which its tokens are read.

        Raises UsageError where it is not stored.
        """
        return RunImage(self, self._reader.sample(image))

    def images_hash(self, ids: Collection[str] | None = None) -> str:
        """Return a digest of which pictures the run holds, or of some of them: their ids and their
        bytes' digests. Of a video these are its frames', chosen by their own ids or the video's.
        """
        chosen_ids = None if ids is None else set(ids)
        entries = [
            entry
            for picture in self.pictures
            for entry in picture.digests.items()
            if chosen_ids is None or not chosen_ids.isdisjoint((picture.id, entry[0]))
        ]
        return digest_texts(text for entry in sorted(entries) for text in entry)

    def refresh(self) -> None:
        """Look again for parts committed since."""
        self.__dict__.pop("_reader", None)

    def read(
        self,
        kind: Kind,
        layer: int | Sequence[int],
        kv_head: int | Sequence[int] = 0,
        ids: Sequence[str] | None = None,
        raw: bool = False,
        *,
        tokens: Tokens | None = None,
        rows: Numbers | None = None,
        cols: Numbers | None = None,
        frame: int | None = None,
        category: str | None = None,
        data: str | Path | None = None,
    ) -> BlockValues:
        """Read one block, or several, over all images or over some.

        The values have the shape (token, dim), with the tokens of all images one after the other.
        Several layers, and several heads, add an axis in front: (layer, kv_head, token, dim). A
        sequence of one number has its axis, too.

        Args:
            kind: key, value, projected, vision, hidden or saliency; all but the first two have
                one head, number 0, and saliency has one dimension.
            layer: the model's layer number, or several in any order.
            kv_head: the head's number, or several in any order.
            ids: the images, or videos or frames, in this order; None reads all, by dataset index.
            raw: return the values as stored (bfloat16 as uint16 bits), else float32.
            tokens: indices, or a slice, of the tokens to take of each image; or such for each
                image by its id, which then are the images to read.
            rows, cols: rows and columns of the base grid to take of each image, row by row, in
                place of `tokens`.
            frame: the number of a frame, from 0 on: of each video the tokens that show it, and
                rows and cols those of its grid.
            category: the name of a class of the data set, in place of them: the tokens whose
                patches its label maps give to the class, of the images that have some; see
                kvtool.features.classes.
            data: the place of the data set for `category`, if it moved.

        Raises UsageError where a block, an image, a token or a class is not there, where a layer
        has no keys and values of its own, and where layers differ in their number of dimensions;
        CorruptError where bytes are not those that were written.
        """
        ids, choice = choose(
            self, kind, ids, TokenChoice(tokens, rows, cols, frame), category, data
        )
        return self._reader.read(kind, layer, kv_head, ids, raw, choice)

    def tokens(
        self,
        ids: Sequence[str] | None = None,
        kind: Kind = "value",
        *,
        tokens: Tokens | None = None,
        rows: Numbers | None = None,
        cols: Numbers | None = None,
        frame: int | None = None,
        category: str | None = None,
        data: str | Path | None = None,
    ) -> Any:
        """Return a table of tokens: row i belongs to the vector i that `read` gives for the same
        arguments.

        It is a pandas.DataFrame where pandas is installed, else a structured NumPy array, of the
        columns image, token, row, col, x_px, y_px and grid, of videos also frame, see
        kvtool.store.tokens. Raises UsageError as read does.
        """
        ids, choice = choose(
            self, kind, ids, TokenChoice(tokens, rows, cols, frame), category, data
        )
        samples = self.samples if ids is None else [self._reader.sample(image) for image in ids]
        return token_table(samples, kind, choice)

    def stream(
        self,
        kind: Kind,
        layers: Sequence[int] | None = None,
        ids: Sequence[str] | None = None,
        raw: bool = False,
    ) -> Iterator[tuple[int, PartSlice]]:
        """Yield (layer, slice) with all heads, layer by layer, part by part, images in the parts'
        order.

        Raises the same errors as read.
        """
        return self._reader.stream(kind, layers, ids, raw)

    def read_image(
        self, image: str, kinds: Sequence[Kind] | None = None, raw: bool = False
    ) -> dict[str, Bits]:
        """Read all of one image: kind -> (layer, head, token, dim).

        With key and value come text_key and text_value, the prompt's tokens before the image.
        Where layers differ in shape, each shape has an array of its own, such as key_8x256 and
        key_4x512. `kinds`: all stored ones by default. Raises the same errors as read.
        """
        return self._reader.read_image(image, kinds, raw)

    def zarr(self, array: str) -> list[ZarrPart]:
        """Return the Zarr arrays of a kind (or of text_key, text_value), one for each part that has
        it.

        Each comes with its image ids and token offsets: `for array, ids, offsets in
        run.zarr("value")`. The arrays have the shape (layer, head, token, dim), bfloat16 as uint16
        bits. Raises UsageError where it is not stored.
        """
        return open_arrays(self._reader.parts, self.config, array)

    def texts(self, template: str = DEFAULT) -> TextSet:
        """Return the class names and expressions whose vectors are stored in a template, as of
        now.
        """
        return TextSet.of(self.config, self._scan("text"), template)

    @property
    def text_templates(self) -> list[str]:
        """The templates that texts are stored in, the default one first."""
        stored = {part.attributes.get("template", DEFAULT) for part in self._scan("text")}
        return sorted(
            (template for template in stored if self.texts(template).parts),
            key=lambda template: (template != DEFAULT, template),
        )

    @property
    def text_names(self) -> list[str]:
        """The class names and expressions whose value vectors are stored, as of now."""
        return self.texts().names()

    def text_values(self, layer: int, kv_head: int, raw: bool = False) -> Bits:
        """Return the (text, dim) value vectors of text_names.

        Raises UsageError where the layer or head is not stored.
        """
        return self.texts().values(layer, kv_head, raw)

    @cached_property
    def _reader(self) -> PartsReader:
        return PartsReader(self.config, self._scan("parts"))

    def _title(self) -> str:
        return f"Run {self.name}"

    def _facts(self) -> Facts:
        config = self.config
        return {
            "store": self.address,
            "model": f"{config.model.name} ({config.model.dtype})",
            "weights": config.model.quantization or None,
            "data set": f"{config.dataset}, split {config.split}, prefix {config.prefix}",
            "system": config.system or None,
            "kinds": listing(config.kinds),
            "layers": numbers(self.layers) if config.layers else None,
            "kv heads": config.heads_in_words() if config.layers else None,
            "vision layers": numbers(config.vision_layers) if config.vision_layers else None,
            **self._holdings(),
        }

    def _holdings(self) -> Facts:
        """Return how much is stored as of now; a damaged run says so, as `repr` must not fail."""
        try:
            count = len(self.covered_indices())
            nbytes = sum(part.nbytes for part in self.parts())
            return {"images": f"{count} ({decimal(nbytes)})"}
        except (StoreError, OSError) as error:
            return {"damaged": error}
