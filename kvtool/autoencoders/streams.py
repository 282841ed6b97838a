"""The residual stream over much text, on disk while SAEs are trained on it.

A file for each layer and part, of vectors one after the other; what was written is noted beside
them, so that a collection that was killed goes on. Nothing is mapped for writing: a full disk is an
error of one line and no signal.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import torch
from rich.filesize import decimal

from kvtool.autoencoders.documents import Documents, contexts, is_held_out
from kvtool.autoencoders.tally import (
    PARTS,
    CollectionTally,
    Part,
    StreamSettings,
    fresh_tally,
    read_tally,
)
from kvtool.errors import ModelError, SpaceError, UsageError
from kvtool.models.language import Language, TextStates
from kvtool.outputs import write_output
from kvtool.progress import Progress
from kvtool.store.estimate import free_bytes
from kvtool.store.files import os_errors

log = logging.getLogger("kvtool")

MOST_HELD_OUT = 32_768
"""Tokens at most on which SAEs are measured."""
BLOCK_TOKENS = 4_096
"""So many tokens are run before their vectors are written."""
NOTE_BLOCKS = 8
"""Blocks between two notes of what was written."""
_WHAT = "sae train"


@dataclass(frozen=True)
class StreamFiles:
    """The files of a collection.

    Attributes:
        folder: Where they are.
        tally: What is in them.
        hidden: The width of a vector.
        dtype: The precision of its numbers.
    """

    folder: Path
    tally: CollectionTally
    hidden: int
    dtype: torch.dtype

    def vectors(self, layer: int, part: Part) -> torch.Tensor:
        """Return the vectors of a layer, (token, hidden), mapped from their file."""
        count = self.tally.tokens[part]
        if not count:
            return torch.zeros(0, self.hidden, dtype=self.dtype)
        path = stream_path(self.folder, layer, part)
        numbers = torch.from_file(str(path), False, count * self.hidden, dtype=self.dtype)
        return numbers.view(count, self.hidden)


def stream_path(folder: Path, layer: int, part: Part) -> Path:
    """Return the file of a layer's vectors."""
    return folder / f"layer_{layer}.{part}.bin"


def collect(
    language: Language,
    documents: Documents,
    settings: StreamSettings,
    folder: Path,
    advance: Progress,
) -> StreamFiles:
    """Run texts and write the stream after each layer; what the folder holds already is kept.

    Args:
        language: The model.
        documents: The texts.
        settings: How they are run.
        folder: Where the files go.
        advance: Told of the tokens that were read.

    Raises UsageError where there is too little text, ModelError for vectors that are not finite,
    SpaceError where the disk is too small or full.
    """
    writer = _Writer(language, settings, folder)
    if not writer.tally.is_complete:
        writer.check_space(documents)
        with os_errors(f"{_WHAT}: {folder} cannot be written"), writer:
            # Texts are cut the same way each time, so that a count says where to go on.
            texts = contexts(language, documents, settings.context)
            # What the contexts before gave is in the files already.
            unread = islice(texts, writer.tally.contexts, None)
            for number, block in enumerate(_blocks(unread), 1):
                n_before = writer.tally.tokens["train"]
                writer.add(block)
                advance(writer.tally.tokens["train"] - n_before, "text")
                if writer.is_full():
                    break
                if number % NOTE_BLOCKS == 0:
                    writer.note()
            writer.tally = replace(writer.tally, is_complete=True)
            writer.note()
        log.info("%s: %s", _WHAT, writer.tally.summary())
    # An SAE needs both parts: tokens to learn from, and others to be measured on.
    if not all(writer.tally.tokens.values()):
        raise UsageError(
            f"{_WHAT}: expected text for training and a tenth of it to be held out, found "
            f"{writer.tally.contexts} contexts in {documents.name}; give more text"
        )
    return StreamFiles(folder, writer.tally, language.hidden, writer.dtype)


def _blocks(texts: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    """Yield contexts in blocks of about BLOCK_TOKENS tokens."""
    block: list[list[int]] = []
    n_tokens = 0
    for ids in texts:
        block.append(ids)
        n_tokens += len(ids)
        if n_tokens >= BLOCK_TOKENS:
            yield block
            block, n_tokens = [], 0
    if block:
        yield block


class _Writer:
    """Appends vectors to the files; a context manager while they are open."""

    def __init__(self, language: Language, settings: StreamSettings, folder: Path) -> None:
        self.language = language
        self.settings = settings
        self.folder = folder
        self.dtype = next(language.decoder.parameters()).dtype
        self.tally = read_tally(self._tally_path(), settings)
        self.files: dict[Part, list[BinaryIO]] = {}
        self.stack = ExitStack()
        # A file shorter than was noted is damaged: all begins anew.
        if any(_size(path) < self._end(part) for path, part in self._paths()):
            self.tally = fresh_tally(settings)

    def _tally_path(self) -> Path:
        return self.folder / "streams.json"

    def _paths(self) -> Iterator[tuple[Path, Part]]:
        for layer in self.tally.layers:
            for part in PARTS:
                yield stream_path(self.folder, layer, part), part

    def _end(self, part: Part) -> int:
        """Return how many bytes of a file of a part were noted."""
        n_bytes: int = self.tally.tokens[part] * self.language.hidden * self.dtype.itemsize
        return n_bytes

    def check_space(self, documents: Documents) -> None:
        """Raise SpaceError where the disk has not the room that the files may take."""
        most_tokens = min(self.settings.most_tokens, documents.n_bytes) + MOST_HELD_OUT
        vector_bytes = self.language.hidden * self.dtype.itemsize * len(self.tally.layers)
        needed = (most_tokens - sum(self.tally.tokens.values())) * vector_bytes
        free = free_bytes(self.folder)
        if needed > free:
            raise SpaceError(
                f"{_WHAT}: expected {decimal(needed)} for the vectors of {most_tokens} tokens in "
                f"{len(self.tally.layers)} layers, found {decimal(free)} free at {self.folder}: "
                "free some, or use fewer --layers or --max-tokens"
            )

    def __enter__(self) -> _Writer:
        for path, part in self._paths():
            path.touch()
            file = self.stack.enter_context(path.open("r+b"))
            # What a killed collection wrote after its last note is written again.
            file.truncate(self._end(part))
            file.seek(0, os.SEEK_END)
            self.files.setdefault(part, []).append(file)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def is_full(self) -> bool:
        """Return whether there are as many tokens for training as were wanted."""
        return self.tally.tokens["train"] >= self.settings.most_tokens

    def add(self, block: Sequence[list[int]]) -> None:
        """Run contexts and append their vectors. Raises ModelError where some are not finite."""
        items = list(self.language.token_states(block, self.tally.layers))
        if not self.tally.medians:
            self.tally = replace(self.tally, medians=_medians(items))
        tokens = dict(self.tally.tokens)
        n_outliers = self.tally.n_outliers
        # The order of the texts, and not that in which their lengths made them run.
        for item in sorted(items, key=lambda item: item.index):
            part: Part = "held-out" if is_held_out(block[item.index]) else "train"
            most_tokens = MOST_HELD_OUT if part == "held-out" else self.settings.most_tokens
            is_usual = self._is_usual(item.states)
            n_outliers += int((~is_usual).sum())
            # Usual tokens, as many as the part still has room for.
            vectors = item.states[:, is_usual][:, : most_tokens - tokens[part]]
            self._append(vectors, part)
            tokens[part] += vectors.shape[1]
        count = self.tally.contexts + len(block)
        self.tally = replace(self.tally, contexts=count, tokens=tokens, n_outliers=n_outliers)

    def _is_usual(self, states: torch.Tensor) -> torch.Tensor:
        """Return which tokens (token,) of states (layer, token, hidden) are no outliers."""
        norms = vector_lengths(states, self.tally.layers, self.language.name)
        medians = torch.tensor(self.tally.medians, device=norms.device)
        # An outlier in any layer is left out of all, so that layers have the same tokens.
        return (norms <= self.settings.outlier * medians[:, None]).all(dim=0)

    def _append(self, vectors: torch.Tensor, part: Part) -> None:
        """Append vectors (layer, token, hidden) to the files of a part."""
        # As bytes: NumPy has no bfloat16.
        stored = vectors.to(self.dtype).cpu().contiguous().view(torch.uint8).numpy()
        for file, row in zip(self.files[part], stored, strict=True):
            file.write(row.tobytes())

    def note(self) -> None:
        """Sync the files, then say what is in them."""
        for file in chain(*self.files.values()):
            file.flush()
            os.fsync(file.fileno())
        record = json.dumps(asdict(self.tally)).encode()
        write_output(self._tally_path(), record, _WHAT)


def vector_lengths(states: torch.Tensor, layers: Sequence[int], model: str) -> torch.Tensor:
    """Return the length (layer, token) of states (layer, token, hidden).

    Raises ModelError where some are not finite.
    """
    lengths: torch.Tensor = states.float().norm(dim=-1)
    # The first layer with such a vector is named.
    for row in (~torch.isfinite(lengths)).any(dim=1).nonzero()[:1]:
        raise ModelError(
            f"model {model}: expected finite vectors after layer {layers[int(row)]}, found NaN or "
            "infinite ones; try another --dtype, such as float32"
        )
    return lengths


def _medians(items: Sequence[TextStates]) -> list[float]:
    """Return the median length of the vectors of each layer."""
    norms = torch.cat([item.states.float().norm(dim=-1) for item in items], dim=1)
    medians: list[float] = norms.median(dim=1).values.tolist()
    return medians


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0
