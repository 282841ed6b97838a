"""The folder of a run: its settings, read and checked, and the commit of a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store import layout
from kvtool.store.files import commit_folder, os_errors, scratch_folder, write_file
from kvtool.store.manifest import RunConfig
from kvtool.store.roster import segment_name, write_segment
from kvtool.store.sealed import group_json, leaf_json, read_group

_MEND_RUN = "`kvtool store repair` mends it, or remove the run"


@dataclass(frozen=True)
class _RunRecord:
    """The attributes of a run's group."""

    config: RunConfig
    hash: str


def read_config(store: Path, name: str) -> RunConfig:
    """Return the settings of the run called `name`. Raises CorruptError."""
    label = f"run {name}"
    with os_errors(f"{label}: cannot be read"):
        try:
            attributes = read_group(layout.run_path(store, name), label)
            record = schema.read(_RunRecord, attributes, f"{label}: {layout.ZARR_JSON}")
        except FileNotFoundError:
            raise CorruptError(f"{label}: its {layout.ZARR_JSON} is missing: {_MEND_RUN}") from None
        except CorruptError as error:
            raise CorruptError(f"{error}: {_MEND_RUN}") from None
    config = record.config
    geometry = config.model.geometry
    # Each layer needs its shape, or its array could not be found.
    if geometry.by_layer and len(geometry.by_layer) != geometry.layers:
        raise CorruptError(
            f"{label}: {layout.ZARR_JSON}: expected shapes of {geometry.layers} layers, found "
            f"{len(geometry.by_layer)}: {_MEND_RUN}"
        )
    # The hash is made anew of what was read: a changed field would pass for another run.
    if config.hash != record.hash or config.name != name:
        raise CorruptError(
            f"run {name}: expected configuration {record.hash}, found {config.hash} of "
            f"{config.name}: "
            "give a renamed folder its name back, or remove it and extract again"
        )
    return config


def write_run(store: Path, config: RunConfig, segment: dict[str, Any] | None = None) -> bool:
    """Commit a run's folder, with the first segment of its roster.

    False: another writer was first.
    """
    with scratch_folder(store) as scratch:
        tmp = scratch / config.name
        tmp.mkdir()
        write_file(
            tmp / layout.ZARR_JSON, group_json({"config": config.to_json(), "hash": config.hash})
        )
        # The groups exist from the first moment, so that zarr reads an empty run as well.
        for name in layout.RUN_FOLDERS:
            (tmp / name).mkdir()
            document = leaf_json({}) if name == layout.LOCKS else group_json({})
            write_file(tmp / name / layout.ZARR_JSON, document)
        # A new run and the order of its images are committed together.
        if segment is not None:
            write_segment(tmp / layout.ROSTER / segment_name(0), segment)
        return commit_folder(tmp, layout.run_path(store, config.name))
