"""Where a model's files are: a name becomes one local folder and what it is known by, resolved
once.

A model is known by its revision, a digest of its weights and of the files that are read with them,
whatever its name and place. Only a hub model whose weights are not in the cache has none: it is
known by its commit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from kvtool.errors import ModelError
from kvtool.models import smollm2
from kvtool.models.adapters import SCHEME
from kvtool.models.families import EXAMPLES, reads_text, takes_pictures
from kvtool.models.files import (
    CONFIG,
    first_pointer,
    folder_revision,
    has_processor,
    has_tokenizer,
    missing_files,
    one_line,
    pointer_message,
    read_json,
)
from kvtool.types import ModelInfo

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
DUPLICATES = ("consolidated*", "original/*", "onnx/*")
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w-][\w.-]*(/[\w-][\w.-]*)*)?", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """A model's folder.

    revision: a digest of all that is read of it (kvtool.models.files.folder_revision); empty where
        its weights are not there, which only `resolve(name, weights=False)` allows.
    commit: the hub's commit, where it is known.
    """

    name: str
    path: Path
    revision: str
    commit: str | None = None


def same_model(stored: ModelInfo, snapshot: Snapshot) -> bool:
    """Return whether a stored run is of this model: equal revisions, or equal commits where one of
    them has no revision.
    """
    if stored.revision and snapshot.revision:
        return stored.revision == snapshot.revision
    return snapshot.commit is not None and stored.commit == snapshot.commit


def resolve(name: str, weights: bool = True) -> Snapshot:
    """Return the local snapshot of a hub id, a folder or a shipped model. Raises ModelError.

    Without weights only the small files of a hub model are needed, and fetched where they are
    missing.
    """
    # Shipped models first: their names are no folders and no hub ids.
    if re.fullmatch(r"demo(-tower|-adapter|@\w+)?|smollm2-adapter", name):
        from kvtool.demo.weights import demo_path

        return _snapshot(name, demo_path(name), weights)
    if name.startswith(SCHEME):
        adapter = Path(name.removeprefix(SCHEME)).expanduser()
        return _snapshot(f"{SCHEME}{adapter.resolve()}", adapter, weights)
    if name == smollm2.NAME:
        unpacked = smollm2.smollm2_path()
        snapshot = _snapshot(name, unpacked, weights)
        return replace(snapshot, revision=smollm2.smollm2_revision(unpacked))
    folder = _folder(name)
    if folder is not None:
        return _snapshot(str(folder.resolve()), folder, weights)
    if not _HUB_ID.fullmatch(name):
        if name.startswith(("/", ".", "~")) or name.count("/") > 1:
            raise ModelError(
                f"model {name}: expected an existing folder, found none; check the path"
            )
        raise ModelError(
            f"model {name!r}: expected a hub id (owner/name), an existing folder or demo; "
            f"{nearest(name)}"
        )
    return _hub_snapshot(name, weights)


def _folder(name: str) -> Path | None:
    """Return the folder of a name that is one; None where there is none. Raises ModelError for a
    file.
    """
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path if name else None
        is_there = path.exists()
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # too long, NUL, no permission, a home that is not known
        return None
    if is_there:
        raise ModelError(
            f"model {name}: expected a folder with config.json, found a file; give its folder"
        )
    return None


def nearest(name: str) -> str:
    """Return a hint for an unknown name."""
    known_names = ["demo", *(example for examples in EXAMPLES.values() for example in examples)]
    short = {
        example.rpartition("/")[2].lower(): example for example in known_names if example != name
    }
    nearest_names = get_close_matches(name.rpartition("/")[2].lower(), short, n=1, cutoff=0.5)
    return f"did you mean {short[nearest_names[0]]}?" if nearest_names else "see `kvtool models`"


def _snapshot(name: str, path: Path, weights: bool) -> Snapshot:
    """Return what a folder's model is known by.

    Raises ModelError where something is missing or not what it should be.
    """
    check_folder(path, name, weights)
    # A model that is there in part is known by its commit alone.
    complete = weights or not (
        missing_files(path, weights=True) or first_pointer(path, weights=True)
    )
    real = path.resolve()
    # A folder in the hub's cache is named by its commit.
    commit = real.name if real.parent.name == "snapshots" and _COMMIT.fullmatch(real.name) else None
    return Snapshot(name, path, folder_revision(path) if complete else "", commit)


def check_folder(path: Path, name: str, weights: bool) -> None:
    """Raises ModelError unless a folder holds a config and, if asked for, all of its weights and no
    adapter.
    """
    if not (path / CONFIG).is_file():
        raise ModelError(f"model {name}: expected a folder with config.json, {_other_folder(path)}")
    if absent := missing_files(path, weights):
        raise ModelError(
            f"model {name}: expected weights in {absent}, found no such file; copy or download "
            "the rest"
        )
    if pointer := first_pointer(path, weights):
        raise ModelError(f"model {name}: {pointer_message(pointer)}")
    if adapter := next((file for file in ADAPTERS if (path / file).exists()), ""):
        raise ModelError(
            f"model {name}: expected weights that are complete, found an adapter ({adapter}) "
            "beside them, which would "
            "not be applied; merge it into the weights, or move its files away"
        )


def _other_folder(path: Path) -> str:
    """Return what a folder without config.json holds, and what to do."""
    commits = cached_commits(path)
    if commits:
        return f"found a model of the hub's cache; give {path / 'snapshots' / commits[0]}"
    if (path / ADAPTERS[0]).is_file():
        return (
            f"found an adapter ({ADAPTERS[0]}); merge it into the weights of its base model and "
            "give that folder"
        )
    listing = ", ".join(sorted(repr(item.name)[1:-1] for item in path.glob("*"))[:4]) or "nothing"
    return f"found {listing}; give a model's own folder"


def cached_commits(repo_folder: Path) -> list[str]:
    """Commits of which the hub's cache holds something, the newest first."""
    folders = [
        path
        for path in repo_folder.glob("snapshots/*")
        if _COMMIT.fullmatch(path.name) and path.is_dir()
    ]
    return [
        path.name for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)
    ]


def _repo_folder(repo: str) -> Path:
    """Return where the hub's cache keeps a model."""
    from huggingface_hub import constants  # its settings alone, which are quick to import

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def cached_snapshot(repo: str, revision: str) -> Path | None:
    """Return the folder of a cached commit, branch, tag or pull request (main if empty); None where
    there is none.
    """
    folder = _repo_folder(repo)
    reference = folder / "refs" / (revision or "main")
    try:
        # A branch is a file that names its commit; a commit is its own name.
        commit = reference.read_text(encoding="ascii").strip() if reference.is_file() else revision
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if _COMMIT.fullmatch(commit) and snapshot.is_dir() else None


def _hub_snapshot(name: str, weights: bool) -> Snapshot:
    """Return the cached snapshot of a hub model, downloaded where something is missing."""
    repo, _, revision = name.partition("@")
    path = cached_snapshot(repo, revision)
    if path is None or _is_incomplete(path, weights):
        # What was planned on is what is completed: a cached commit stays the commit.
        patterns = [*SMALL_FILES, "*.safetensors"] if weights else [*SMALL_FILES]
        path = _fetch(repo, path.name if path else revision, patterns, path)
        # Older repositories have pickled weights alone.
        if weights and missing_files(path, weights):
            path = _fetch(repo, path.name, [*SMALL_FILES, "*.bin"], path)
    return _snapshot(name, path, weights)


def _is_incomplete(path: Path, weights: bool) -> bool:
    """Return whether a cached snapshot lacks a file that the hub is likely to have."""
    if missing_files(path, weights):
        return True
    config = read_json(path / CONFIG)
    # What a model never has is not asked for, at each call anew.
    if takes_pictures(config) and not has_processor(path):
        return True
    return reads_text(str(config.get("model_type"))) and not has_tokenizer(path)


def _fetch(repo: str, revision: str, patterns: list[str], cached: Path | None) -> Path:
    """Return the snapshot's folder, downloaded; where the hub is out of reach, what is cached of
    it.

    Raises ModelError.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    ignored = list(DUPLICATES)
    try:
        return Path(
            snapshot_download(
                repo, revision=revision or None, allow_patterns=patterns, ignore_patterns=ignored
            )
        )
    except GatedRepoError:
        raise ModelError(
            f"model {repo}: expected access to a gated model, found none; accept its terms on the "
            "hub and log in"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"model {repo}: expected a model on the hub, found none of this name that may be read; "
            f"{nearest(repo)}"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(
            f"model {repo}: expected a branch, tag or commit {revision} on the hub, found none; "
            "check its name"
        ) from None
    except LocalEntryNotFoundError:
        if cached is not None:
            return cached
        raise ModelError(f"model {repo}: {_not_in_reach(repo, revision)}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"model {repo}: expected a download from the hub, found: {one_line(error)}; try again, "
            "or give a folder"
        ) from None


def _not_in_reach(repo: str, revision: str) -> str:
    """Return why a model is not had without a network, and what to do."""
    if commits := cached_commits(_repo_folder(repo)):
        return (
            f"expected {revision or 'main'} in the local cache or the hub in reach, found commit "
            f"{commits[0]} in the "
            f"cache alone; give {repo}@{commits[0]} if that is the one"
        )
    hint = nearest(repo)
    return (
        "expected it in the local cache or the hub in reach, found neither; download it where "
        "there is a network, or "
        f"give a folder; {hint}"
    )
