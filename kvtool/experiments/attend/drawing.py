"""Attention on disk: maps of all heads as arrays, and pictures of the localization heads' map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from kvtool.asking.attending import Attender, Look
from kvtool.asking.inquiries import Array, Inquiry
from kvtool.features.attention_maps import smoothed_sum
from kvtool.outputs import write_output
from kvtool.pictures.files import pictures_of, write_png
from kvtool.pictures.heat import draw_heat

SIDE_PX = 512
LONGEST = 120
"""Characters of a file's name."""


@dataclass(frozen=True)
class MapFiles:
    """Where maps go.

    Attributes:
        save: The folder of arrays.
        out: The folder of pictures.
        each_token: Whether each token that looks has a picture.
    """

    save: str | Path | None
    out: str | Path | None
    each_token: bool

    def write(
        self,
        attender: Attender,
        inquiries: Sequence[Inquiry],
        heads: Sequence[tuple[int, int]],
        data: str | Path | None,
    ) -> list[str]:
        """Take the attention of inquiries and write it; returns notes about pictures that are not
        there.

        heads: the (layer, q_head) that are drawn; none for the mean over all.
        """
        ids = list(dict.fromkeys(inquiry.image for inquiry in inquiries))
        pictures: dict[str, Image.Image] = {}
        notes: tuple[str, ...] = ()
        for image in ids:
            members = [inquiry for inquiry in inquiries if inquiry.image == image]
            if self.out is not None:
                # A picture at a time, so that they need not fit into memory together.
                pictures, picture_notes = pictures_of(attender.run, [image], data)
                notes += picture_notes
            for look in attender.looks(members, lambda *_: None):
                if self.save is not None:
                    self._save(Path(self.save), look, attender.layers)
                if self.out is not None and image in pictures:
                    self._draw(Path(self.out), look, attender.layers, heads, pictures[image])
        return list(dict.fromkeys(notes))

    def _save(self, folder: Path, look: Look, layers: Sequence[int]) -> None:
        """Write the maps of all heads, the mean over the tokens that look."""
        span = look.sample.base()
        # Queries of a text are averaged, as in the scores.
        maps = look.attention.mean(axis=2)
        data = BytesIO()
        np.savez_compressed(
            data,
            attention=maps.astype(np.float32),
            grid=np.array(span.grid),
            cells=np.array(span.token_indices()),
            layers=np.array(layers),
            image=np.array(look.inquiry.image),
            text=np.array(look.inquiry.text),
            answer=np.array(look.answer),
        )
        path = folder / f"{file_name(look.inquiry.id)}.npz"
        write_output(path, data.getvalue(), "attend: --save", make_folder=True)

    def _draw(
        self,
        folder: Path,
        look: Look,
        layers: Sequence[int],
        heads: Sequence[tuple[int, int]],
        picture: Image.Image,
    ) -> None:
        """Draw the map of a look, or a map for each token that looks."""
        name = file_name(look.inquiry.id)
        if not self.each_token:
            maps = look.attention.mean(axis=2)
            _write(folder / f"{name}.png", look, _of_heads(maps, layers, heads), picture)
            return
        # As many digits for all, so that names sort as the tokens stand.
        digits = len(str(len(look.words) - 1))
        for number, word in enumerate(look.words):
            maps = _of_heads(look.attention[:, :, number], layers, heads)
            _write(folder / f"{name}-{number:0{digits}}-{file_name(word)}.png", look, maps, picture)


def _of_heads(maps: Array, layers: Sequence[int], heads: Sequence[tuple[int, int]]) -> Array:
    """Return the maps (map, token) of some heads out of all (layer, q_head, token)."""
    if not heads:
        return maps.reshape(-1, maps.shape[-1])
    # Layers that were chosen need not begin at 0: their rows are looked up.
    rows = {layer: row for row, layer in enumerate(layers)}
    return np.stack([maps[rows[layer], head] for layer, head in heads])


def _write(path: Path, look: Look, maps: Array, picture: Image.Image) -> None:
    span = look.sample.base()
    heat = smoothed_sum(maps[:, span.token_indices()], span.grid).reshape(span.grid)
    # What every patch has is no color: the lowest stands for it.
    overlay = draw_heat(picture, heat - heat.min(), span.cover_xyxy_px, SIDE_PX)
    write_png(overlay, path, "attend: --out")


def file_name(text: str) -> str:
    """Return a text as a file's name: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "_", text)[:LONGEST].strip("_") or "token"
