"""What kvtool extract says: the images that failed, what was done, what it would take."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kvtool.cli import console
from kvtool.cli.options import Format
from kvtool.errors import BusyError, KvtoolError, PartialError

if TYPE_CHECKING:
    from kvtool.engine.outcome import Report, SizeEstimate

SHOWN_FAILURES = 20
ESTIMATED = {
    "run": "run",
    "n_images": "images",
    "n_before": "already stored",
    "n_todo": "to extract",
    "image_bytes": "an image takes",
    "todo_bytes": "before compression",
    "expected_bytes": "on disk, about",
    "free_bytes": "free",
    "n_probed": "images measured",
    "source": "features from run",
}
"""What the fields of an estimate are called on a terminal."""


def say_source(source: str | None) -> None:
    """Say which run features are taken from, if any."""
    if source:
        console.log.info(
            "projected features of the images that run %s holds come from there (--no-reuse)",
            source,
        )


def log_failures(report: Report) -> None:
    """Log why pictures failed: the first ones as errors, the others for -v and --log-file."""
    for number, failure in enumerate(report.failed.values()):
        level = logging.ERROR if number < SHOWN_FAILURES else logging.DEBUG
        console.log.log(level, "failed: %s", failure.reason)
    if len(report.failed) > SHOWN_FAILURES:
        console.log.error(
            "... and %d more: -v and --log-file list all", len(report.failed) - SHOWN_FAILURES
        )


def finish(report: Report, format: Format) -> None:
    """Say what was done.

    Raises PartialError (exit 4) for pictures that failed or could not be listed, KvtoolError (1)
    where all failed, BusyError (3) where others hold all that was left; a worker that did its share
    is done, whatever others still hold.
    """
    from kvtool.cli.output import emit_rows

    log_failures(report)
    row = _row(report)
    console.log.debug("%s", ", ".join(f"{name} {value}" for name, value in row.items()))
    emit_rows([row], format)
    if report.n_before == report.n_images:
        console.log.info("nothing to do: run %s holds all %d images", report.run, report.n_images)
    if report.n_missing > 0:
        owner = report.busy[0] if report.busy else "another process"
        note = f"run {report.run}: {report.n_missing} images are still held by others: {owner}"
        if not report.n_done and not report.failed:
            raise BusyError(note)
        console.log.info("%s", note)
    if len(report.failed) == report.n_images:
        raise KvtoolError(
            f"run {report.run}: none of {report.n_images} images could be extracted, and it holds "
            "none; mend the files and run the same command again"
        )
    if lost := len(report.failed) + len(report.left_out):
        raise PartialError(
            f"run {report.run}: {lost} of {report.n_images + len(report.left_out)} images failed "
            "and were left out; "
            "mend the files and run the same command again"
        )


def _row(report: Report) -> dict[str, Any]:
    """Return the numbers of an extraction by name."""
    from kvtool.store.nonfinite import blocks

    return {
        "run": report.run,
        "images": report.n_images,
        "already_stored": report.n_before,
        "extracted": report.n_done,
        "stored_by_others": report.n_by_others,
        "failed": len(report.failed),
        "left_out": len(report.left_out),
        "held_by_others": report.n_missing,
        "holders": report.busy if report.n_missing else [],
        "bytes_written": report.n_bytes,
        "reused": report.n_reused,
        "batches": report.n_batches,
        "batch_size": report.batch_size,
        "nonfinite": len(blocks(report.nonfinite)),
        "seconds": round(report.seconds, 1),
    }


def show_estimate(estimate: SizeEstimate, format: Format) -> None:
    """Print what an extraction would take."""
    from rich.filesize import decimal

    from kvtool.cli.output import emit_rows, resolve

    row = asdict(estimate)
    if resolve(format) == "table":
        row = {
            ESTIMATED[name]: decimal(value) if name.endswith("_bytes") else value
            for name, value in row.items()
        }
    emit_rows([row], format)
    if estimate.n_todo:
        say_source(estimate.source)
    console.log.info(
        "%d of %d images to extract: %s before compression, about %s on disk%s",
        estimate.n_todo,
        estimate.n_images,
        decimal(estimate.todo_bytes),
        decimal(estimate.expected_bytes),
        "" if estimate.free_bytes is None else f"; {decimal(estimate.free_bytes)} free",
    )
