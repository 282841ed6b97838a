"""Pictures of a run's images for one file: where they come from, and the file that they go to."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path

from PIL import Image

from kvtool.datasets.identity import dataset_of
from kvtool.datasets.images import load_image
from kvtool.errors import KvtoolError, UsageError
from kvtool.outputs import check_output, is_regular, write_output
from kvtool.store import Run


def check_images(run: Run, ids: Sequence[str], command: str) -> None:
    """Check that a run has images, for a command. Raises UsageError that names the nearest ids."""
    run_ids = [view.id for view in run.views]
    for image in sorted(set(ids) - set(run_ids)):
        similar = get_close_matches(image, run_ids, n=3, cutoff=0.4)
        listed = (
            f"{'nearest' if similar else 'for example'}: "
            f"{', '.join(map(repr, similar or run_ids[:3]))}"
        )
        raise UsageError(
            f"{command}: no image {image!r} among the {len(run_ids)} of run {run.name}; {listed}"
        )


def frames_of(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """Return frames, those of a sequence for its name."""
    frames: list[str] = []
    run_ids = [view.id for view in run.views]
    for name in names:
        frames += [image for image in run_ids if image.startswith(f"{name}/")] or [name]
    return tuple(frames)


def pictures_of(
    run: Run, ids: Sequence[str], data: str | Path | None
) -> tuple[dict[str, Image.Image], tuple[str, ...]]:
    """Return the images' pictures, as far as the data set still has them, and a note where it has
    not."""
    try:
        # A run outlives its data set: without it there are drawings without pictures.
        refs = {ref.id: ref for ref in dataset_of(run, data).images() if ref.id in set(ids)}
    except KvtoolError as error:
        if data is not None:
            raise
        return {}, (f"without the original pictures: {error}",)
    # One image that is gone, or damaged, does not take the others along.
    pictures = {}
    notes = []
    for image in ids:
        try:
            pictures[image] = load_image(refs[image])
        except KeyError:
            notes.append(
                f"without the picture of {image}: {run.config.dataset} does not list it any more"
            )
        except KvtoolError as error:
            notes.append(f"without the picture of {image}: {error}")
    return pictures, tuple(notes)


def checked_png(out: str | Path, what: str) -> Path:
    """Return the path of a PNG file that can be written; `what` leads errors, e.g. "show: -o".

    Raises UsageError.
    """
    path = Path(out)
    if path.suffix.lower() != ".png" and is_regular(path):
        raise UsageError(f"{what}: expected a name that ends in .png, found {str(out)!r}")
    return check_output(path, what, make_folder=True)


def write_png(image: Image.Image, path: Path, what: str) -> None:
    """Write a PNG. Raises StoreError."""
    data = BytesIO()
    image.save(data, format="PNG")
    write_output(path, data.getvalue(), what, make_folder=True)
