"""The on-disk store: immutable parts of keys, values and other vectors, in Zarr v3.

Format: docs/store-format.md.
"""

from kvtool.store.blocks import BlockValues, ImageTokens, PartSlice
from kvtool.store.catalog import Store, existing_store, open_store
from kvtool.store.encoding import bits_to_float32, float32_to_bits
from kvtool.store.layout import part_name
from kvtool.store.manifest import Choice, RunConfig, hash_json, same_numbers
from kvtool.store.parts import Picture
from kvtool.store.run import Run

__all__ = [
    "BlockValues",
    "Choice",
    "ImageTokens",
    "PartSlice",
    "Picture",
    "Run",
    "RunConfig",
    "Store",
    "bits_to_float32",
    "existing_store",
    "float32_to_bits",
    "hash_json",
    "open_store",
    "part_name",
    "same_numbers",
]
