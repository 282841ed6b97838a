"""Data sets by name: `open_dataset("spair71k:/data/SPair-71k@test")`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.datasets.sampling import Sampling, is_sampling
from kvtool.errors import UsageError
from kvtool.registry import Registry

if TYPE_CHECKING:
    from kvtool.datasets.base import About, DatasetBase

DATASETS = Registry(
    "data set",
    {
        "folder": "kvtool.datasets.folder:ImageFolder",
        "video": "kvtool.datasets.video:VideoFolder",
        "scenes": "kvtool.datasets.scenes:scenes",
        "spair71k": "kvtool.datasets.spair71k:SPair71k",
        "pascal5i": "kvtool.datasets.pascal5i:Pascal5i",
        "msrc": "kvtool.datasets.msrc:Msrc",
        "imagenet-s": "kvtool.datasets.imagenet_s:ImageNetS",
        "refcoco": "kvtool.datasets.refcoco:RefCoco",
        "davis": "kvtool.datasets.davis:Davis",
        "bdd10k": "kvtool.datasets.bdd10k:Bdd10k",
        "coco": "kvtool.datasets.coco:Coco",
        "pope": "kvtool.datasets.pope:Pope",
        "mme": "kvtool.datasets.mme:Mme",
        "blink": "kvtool.datasets.blink:Blink",
        "cvbench": "kvtool.datasets.cvbench:CvBench",
        "own": "kvtool.datasets.own:Own",
    },
    "kvtool.datasets",
    ("about",),
)


@dataclass(frozen=True)
class Spec:
    """A parsed NAME[:PATH][@SPLIT]; str() gives it back.

    `path` stays as the user wrote it; "-" is standard input.
    """

    name: str
    path: str | None = None
    split: str | None = None

    def __str__(self) -> str:
        path = "" if self.path is None else f":{self.path}"
        return f"{self.name}{path}" + ("" if self.split is None else f"@{self.split}")


def parse_spec(text: str) -> Spec:
    """Read NAME[:PATH][@SPLIT]. Raises UsageError for an unknown name or an empty path.

    The name ends at the first ':' or '@'. In what follows, the last '@' starts the split when a
    known split comes after it; an unknown word without '/' is taken for a misspelt split unless the
    whole is an existing path. Of videos, which frames are taken stands in the split's place.
    """
    # A path may hold any sign after the name: only what ends the name is looked for.
    end = min((text.index(mark) for mark in ":@" if mark in text), default=len(text))
    name, suffix = text[:end], text[end:]
    description = DATASETS.load(name).about
    splits = description.splits
    path: str | None = suffix[1:] if suffix.startswith(":") else None
    split: str | None = suffix[1:] if suffix.startswith("@") else None
    # An @ may be part of the path: it starts a split only where what follows can be one.
    if path is not None and "@" in path:
        head, _, tail = path.rpartition("@")
        misspelt = bool(splits) and "/" not in tail
        is_known = tail in splits or (description.is_sampled and is_sampling(tail))
        if is_known or (misspelt and not _exists(path)):
            path, split = head, tail
    if path == "":
        raise UsageError(
            f"{text}: expected a path after {name + ':'!r}, found none; write {name}:PATH"
        )
    # Frames are chosen in one canonical spelling, so that equal choices are one split.
    if split is not None and description.is_sampled:
        split = str(Sampling.parse(split))
    elif split is not None and split not in splits:
        raise UsageError(
            f"{text}: unknown split {split!r}; {name} has: {', '.join(splits) or 'no splits'}"
        )
    return Spec(name, path, split)


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):
        return False


def open_dataset(spec: str | Spec) -> DatasetBase:
    """Open a data set; its layout is checked now, its annotations are read when asked for.

    Raises UsageError for what is wrong with the spec, DatasetError for what is wrong with the
    folder.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    kind = DATASETS.load(spec.name)
    if spec.path == "-" and spec.name != "folder":
        raise UsageError(f"{spec}: only folder:- reads standard input; write {spec.name}:PATH")
    if spec.path is None and spec.name != "scenes":
        raise UsageError(f"{spec}: expected a path, found none; write {spec.name}:PATH")
    dataset: DatasetBase = kind(None if spec.path in (None, "-") else _expanded(spec), spec.split)
    return dataset


def tasks_named(name: str) -> tuple[str, ...]:
    """Return the tasks that a data set of this name may serve; none for one that is in no table, of
    an object given in Python or of a plug-in that is not there.
    """
    try:
        tasks: tuple[str, ...] = DATASETS.load(name).about.tasks
    except UsageError:
        return ()
    return tasks


def spec_of(dataset: DatasetBase) -> str:
    """Return the NAME:PATH[@SPLIT] that opens a data set again."""
    root = None if dataset.root is None else str(dataset.root)
    return str(Spec(dataset.name, root, dataset.split or None))


def _expanded(spec: Spec) -> Path:
    try:
        return Path(spec.path or "").expanduser()
    except RuntimeError as error:
        raise UsageError(f"{spec}: {error}; write the path in full") from None


def list_datasets() -> list[About]:
    """Return what `kvtool datasets` shows, in the order of the table."""
    return [dataset.about for dataset in DATASETS.usable().values()]
