"""The fast reader: wanted tokens of wanted heads out of a shard, decoded one by one.

The shard's index says where each inner chunk lies; neighbors are read with one call, and while one
shard is decoded others are fetched. Every index and chunk is checked against its crc32c. zarr reads
the same files more slowly; tests/store/test_shards.py compares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kvtool.errors import CorruptError
from kvtool.store.arrays import StoredArray
from kvtool.store.byte_sources import open_bytes
from kvtool.store.encoding import CRC_NBYTES, Bits, decode_chunk, decode_index, to_float32
from kvtool.store.files import os_errors
from kvtool.store.layout import REPAIR
from kvtool.store.writer import encode_threads

READ_NBYTES = 1 << 20
LOOKAHEAD_SHARDS = 4
READ_THREADS = 4


class Rows(NamedTuple):
    """Tokens start..stop-1 of an array, and the row of the output where the first of them goes."""

    start: int
    stop: int
    out: int


@dataclass(frozen=True)
class ReadRequest:
    """Tokens of some heads of one stored layer (0-based among those stored).

    `tag` is the caller's.
    """

    array: StoredArray
    layer: int
    heads: Sequence[int]
    rows: list[Rows]
    tag: Any = None


class ShardPiece(NamedTuple):
    """Tokens lo..hi-1 of one inner chunk; `head`, `out`: place in the output; offset, nbytes: place
    in the file.
    """

    head: int
    out: int
    lo: int
    hi: int
    offset: int
    nbytes: int


class OpenShard:
    """A shard whose index is read and whose wanted bytes are on their way."""

    def __init__(self, request: ReadRequest) -> None:
        self.request = request
        spec = request.array.spec
        # A file holds one layer or all of them.
        shard = request.layer // spec.shard_layers
        self.location = f"{request.array.location}: file {spec.shard_name(shard)}"
        self.nbytes = request.array.shard_nbytes[shard]
        path = request.array.folder / spec.shard_name(shard)
        with os_errors(f"{self.location}: cannot be read"):
            try:
                self._source = open_bytes(path)
            except FileNotFoundError:
                raise CorruptError(f"{self.location} is missing: {REPAIR}") from None
        # The index is read at once, so that what is wanted is fetched meanwhile.
        try:
            self.spans = list(_spans(self._pieces(self._index())))
            with os_errors(f"{self.location}: cannot be read"):
                self._source.announce([(span[0].offset, _end(span[-1])) for span in self.spans])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the shard's file."""
        self._source.close()

    def read_into(self, out: Bits) -> None:
        """Fill `out` (head, row, dim): stored values, or float32 where its dtype is float32 and the
        array's is not.
        """
        spec = self.request.array.spec
        # Both buffers are used for every chunk and every span of this shard.
        scratch = np.empty((spec.shape[3], spec.chunk_tokens), spec.storage)
        buffer = np.empty(
            max((_end(span[-1]) - span[0].offset for span in self.spans), default=0), np.uint8
        )
        for span in self.spans:
            # A span is read with one call; its pieces are slices of that buffer.
            base = span[0].offset
            decoded = -1
            data = self._pread(buffer[: _end(span[-1]) - base], base)
            for piece in span:
                # Several stretches of one chunk follow each other: it is decoded once.
                if piece.offset != decoded:
                    location = f"{self.location}, bytes {piece.offset} to {_end(piece)}"
                    chunk = data[piece.offset - base : _end(piece) - base]
                    values = decode_chunk(chunk, spec.codec, scratch, location)
                    decoded = piece.offset
                target = out[piece.head, piece.out : piece.out + piece.hi - piece.lo]
                if out.dtype == spec.storage:
                    target[...] = values[piece.lo : piece.hi]
                else:
                    to_float32(values[piece.lo : piece.hi], target)

    def _index(self) -> NDArray[np.uint64]:
        """Return (layer, head, chunk, 2) offsets and sizes of the shard's inner chunks."""
        spec = self.request.array.spec
        # The index lies at the end of the file.
        with os_errors(f"{self.location}: cannot be read"):
            try:
                tail, nbytes = self._source.tail(self.nbytes - spec.index_nbytes, self.nbytes)
            except FileNotFoundError:  # an object is only missed when it is read
                raise CorruptError(f"{self.location} is missing: {REPAIR}") from None
        if nbytes != self.nbytes:
            raise CorruptError(
                f"{self.location}: expected {self.nbytes} bytes, found {nbytes}: {REPAIR}"
            )
        if tail.nbytes < spec.index_nbytes:
            raise self._shorter()
        index = decode_index(tail, self.location)
        # As floats, offset and size cannot overflow, whatever a damaged index says.
        end = index.astype(np.float64).sum(1).max(initial=0)
        # A chunk has its checksum at least: anything shorter, or outside, is damage.
        if end > self.nbytes or index[:, 1].min(initial=CRC_NBYTES) < CRC_NBYTES:
            raise CorruptError(
                f"{self.location}: expected an index of chunks within the file, found one outside: "
                f"{REPAIR}"
            )
        return index.reshape(spec.shard_layers, spec.shape[1], spec.chunks_per_head, 2)

    def _pieces(self, index: NDArray[np.uint64]) -> Iterator[ShardPiece]:
        request = self.request
        spec = request.array.spec
        size = spec.chunk_tokens
        # Plain lists: looking up thousands of numbers one by one is slow in an array.
        chunks: list[list[tuple[int, int]]] = index[request.layer % spec.shard_layers].tolist()
        for position, head in enumerate(request.heads):
            for start, stop, out in request.rows:
                # A stretch of tokens may cross the borders of inner chunks.
                for chunk in range(start // size, ceil(stop / size)):
                    lo, hi = max(start, chunk * size), min(stop, (chunk + 1) * size)
                    offset, nbytes = chunks[head][chunk]
                    # In the output rows count from the stretch's start, in the chunk from its own.
                    yield ShardPiece(
                        position,
                        out + lo - start,
                        lo - chunk * size,
                        hi - chunk * size,
                        offset,
                        nbytes,
                    )

    def _pread(self, buffer: NDArray[np.uint8], offset: int) -> NDArray[np.uint8]:
        with os_errors(f"{self.location}: cannot be read"):
            count = self._source.read(buffer, offset)
        if count < buffer.nbytes:
            raise self._shorter()
        return buffer

    def _shorter(self) -> CorruptError:
        return CorruptError(f"{self.location}: the file became shorter while it was read: {REPAIR}")


def open_ahead(requests: Iterable[ReadRequest]) -> Iterator[OpenShard]:
    """Yield the shards of the requests, in order, each open until the next is asked for, with a few
    more under way.
    """
    waiting: deque[OpenShard] = deque()
    try:
        for request in requests:
            waiting.append(OpenShard(request))
            # The oldest shard is read while the bytes of those behind it are on their way.
            if len(waiting) > LOOKAHEAD_SHARDS:
                with closing(waiting.popleft()) as shard:
                    yield shard
        while waiting:
            with closing(waiting.popleft()) as shard:
                yield shard
    finally:
        for shard in waiting:
            shard.close()


def read_all(requests: Sequence[ReadRequest], out: Bits) -> None:
    """Fill `out` from all requests, several shards at once: while one waits for the disk, others
    are decoded.

    Their rows must not overlap. Reading, decompressing and copying run outside Python's lock.
    """

    def read(request: ReadRequest) -> None:
        """Read the rows of one request."""
        with closing(OpenShard(request)) as shard:
            shard.read_into(out)

    threads = min(READ_THREADS, len(requests), encode_threads())
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, requests):
                pass
        return
    # Threads on a single core displace each other's buffers; the kernel still fetches ahead.
    for shard in open_ahead(requests):
        shard.read_into(out)


def _end(piece: ShardPiece) -> int:
    return piece.offset + piece.nbytes


def _spans(pieces: Iterable[ShardPiece]) -> Iterator[list[ShardPiece]]:
    """Yield groups of pieces that follow each other, READ_NBYTES or one chunk long at most.

    No two groups begin at the same byte, and all stretches of a chunk are in one.
    """
    span: list[ShardPiece] = []
    # By their place in the file: a chunk that is asked for again, by other stretches of tokens,
    # repeated images or repeated heads, is beside its first piece.
    for piece in sorted(pieces, key=attrgetter("offset")):
        # A piece of the same chunk joins its span, however long the chunk is.
        is_same = bool(span) and piece.offset == span[-1].offset
        # So does the next chunk in the file, as long as one read holds both.
        is_next = bool(span) and piece.offset == _end(span[-1])
        if is_same or (is_next and _end(piece) - span[0].offset <= READ_NBYTES):
            span.append(piece)
        else:
            if span:
                yield span
            span = [piece]
    if span:
        yield span
