"""Where a model's files are: a name becomes one local folder and a revision, resolved once."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kvtool.errors import ModelError
from kvtool.models import EXAMPLES
from kvtool.types import ModelInfo

SMALL_FILES = ("*.json", "*.jinja", "*.txt", "*.model")
DUPLICATES = ("consolidated*", "original/*", "onnx/*")
SAMPLED_BLOCKS, BLOCK_BYTES = 64, 65_536


@dataclass(frozen=True)
class Snapshot:
    """A model's folder. `revision` is the commit of a hub model, or "files-" and a hash of a folder's files."""

    name: str
    path: Path
    revision: str


def same_model(stored: ModelInfo, snapshot: Snapshot) -> bool:
    """Whether a snapshot is of the model that a run was extracted with."""
    return stored.revision == snapshot.revision


def resolve(name: str, weights: bool = True) -> Snapshot:
    """The local snapshot of a hub id, a folder or a shipped model. Raises ModelError."""
    if re.fullmatch(r"demo(-tower|@\w+)?", name):
        from kvtool import demo

        path = demo.demo_path(name)
        check_folder(path, name, weights)
        return Snapshot(name, path, folder_revision(path))
    folder = Path(name).expanduser()
    if folder.is_dir():
        check_folder(folder, name, weights)
        return Snapshot(str(folder.resolve()), folder, folder_revision(folder))
    if folder.exists():
        raise ModelError(f"model {name}: expected a folder with config.json, found a file; give its folder")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise ModelError(f"model {name}: expected an existing folder, found none; check the path")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name):
        raise ModelError(f"model {name}: expected a hub id (owner/name), an existing folder or demo; {nearest(name)}")
    return hub_snapshot(name, weights)


def nearest(name: str) -> str:
    """A hint for an unknown name."""
    known = ["demo", *(example for examples in EXAMPLES.values() for example in examples)]
    short = {example.rpartition("/")[2].lower(): example for example in known}
    near = get_close_matches(name.rpartition("/")[2].lower(), short, n=1, cutoff=0.5)
    return f"did you mean {short[near[0]]}?" if near else "see `kvtool models`"


def hub_snapshot(name: str, weights: bool) -> Snapshot:
    """The cached snapshot of a hub model, downloaded where something is missing."""
    repo, _, revision = name.partition("@")
    patterns = [*SMALL_FILES, "*.safetensors"] if weights else list(SMALL_FILES)
    path = _fetch(repo, revision, patterns, local=True)
    if path is None or missing_files(path, weights):
        # What was planned on is what is completed: a cached commit stays the commit.
        path = _fetch(repo, path.name if path else revision, patterns, local=False)
        assert path is not None
        if weights and missing_files(path, weights):
            path = _fetch(repo, path.name, [*SMALL_FILES, "*.bin"], local=False) or path
    check_folder(path, name, weights)
    return Snapshot(name, path, path.name)


def _fetch(repo: str, revision: str, patterns: list[str], local: bool) -> Path | None:
    """The snapshot's folder; None where it is not cached and only local files were asked for."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision or None,
                allow_patterns=patterns,
                ignore_patterns=list(DUPLICATES),
                local_files_only=local,
            )
        )
    except GatedRepoError:
        raise ModelError(
            f"model {repo}: expected access to a gated model, found none; accept its terms on the hub and log in"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"model {repo}: expected a model on the hub, found none of this name; {nearest(repo)}"
        ) from None
    except LocalEntryNotFoundError:
        if local:
            return None
        raise ModelError(
            f"model {repo}: expected it in the local cache or the hub in reach, found neither; "
            f"download it where there is a network, or give a folder; {nearest(repo)}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"model {repo}: expected a download from the hub, found: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """The first line of a message that may have many."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ModelError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected JSON, found: {one_line(error)}; fetch the file again") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}; fetch the file again")
    return content


def check_folder(path: Path, name: str, weights: bool) -> None:
    """Raises ModelError unless a folder holds a config and, if asked for, all of its weights."""
    if not (path / "config.json").is_file():
        found = ", ".join(sorted(item.name for item in path.glob("*"))[:4]) or "nothing"
        raise ModelError(f"model {name}: expected a folder with config.json, found {found}; give a model's own folder")
    if missing := missing_files(path, weights):
        raise ModelError(f"model {name}: expected weights in {missing}, found no such file; copy or download the rest")


def missing_files(path: Path, weights: bool) -> str:
    """The first missing file of a model's folder, or an empty string."""
    if not (path / "config.json").is_file():
        return "config.json"
    if not weights:
        return ""
    for suffix in ("safetensors", "bin"):
        stem = "model" if suffix == "safetensors" else "pytorch_model"
        index = path / f"{stem}.{suffix}.index.json"
        if index.is_file():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            return next((shard for shard in shards if not (path / shard).is_file()), "")
        if (path / f"{stem}.{suffix}").is_file():
            return ""
    return "model.safetensors"


def folder_revision(path: Path) -> str:
    """Identity of a folder's model: a hash over its files' names and sizes, the contents of its small files, and of
    weights the header and 64 blocks of 64 KiB spread evenly, so that it costs milliseconds whatever their size."""
    sha = hashlib.sha256()
    kinds = (*SMALL_FILES, "*.safetensors", "*.bin")
    for file in sorted({file for kind in kinds for file in path.glob(kind) if file.is_file()}):
        size = file.stat().st_size
        sha.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= SAMPLED_BLOCKS * BLOCK_BYTES:
                sha.update(stream.read())
                continue
            for block in range(SAMPLED_BLOCKS):
                stream.seek(block * (size - BLOCK_BYTES) // (SAMPLED_BLOCKS - 1))
                sha.update(stream.read(BLOCK_BYTES))
    return f"files-{sha.hexdigest()[:16]}"
