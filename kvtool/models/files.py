"""What a model's folder holds: the files that are read, those that are missing, and the identity of
all of them.

No torch and no transformers: whether a model is the stored one is decided before either is
imported.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvtool.digests import bytes_to_hash, digest_files, digest_texts, read_stamped
from kvtool.errors import ModelError
from kvtool.models.families import TAKES_VIDEOS, reads_text

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
VIDEO_SETTINGS = ("video_preprocessor_config.json",)
GENERATION = "generation_config.json"
TEXT_SETTINGS = (
    *(
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
    ),
    GENERATION,
)
TEMPLATES = ("chat_template.jinja", "additional_chat_templates/*.jinja")
VOCABULARIES = (
    *(
        "tokenizer.json",
        "tokenizer.[0-9]*.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "tekken.json",
    ),
    *("*.model", "*.tiktoken"),
)
"""Files of a tokenizer, as transformers' tokenizer classes name them."""

ORIGINS = (
    "_name_or_path",
    "name_or_path",
    "_commit_hash",
    "transformers_version",
    "tokenizer_file",
)
"""Members of the small files that say where a model came from, and change nothing of what it
computes.
"""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = 1024
SMALL_FILE_BYTES = 1 << 26
LONG_HASH_BYTES = 2_000_000_000
"""Weights beyond this take some seconds to hash, which is said."""

_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")
_SENTENCE_END = re.compile(r"(?<=[^.\s][.!?])\s+(?=[A-Z`'\"(])")
MESSAGE_LENGTH = 300


def one_line(error: BaseException) -> str:
    """Return the first sentence of a foreign message in plain text: no terminal escapes, no line
    breaks, no full stop.
    """
    message = error.strerror if isinstance(error, OSError) else None
    # Only the first sentence: advice of other packages follows, for other programs.
    message_words = _ESCAPE.sub("", message or str(error)).split()
    sentence = _SENTENCE_END.split(" ".join(message_words))[0].rstrip(" .:;,")
    sentence = "".join(character for character in sentence if character.isprintable())
    if len(sentence) > MESSAGE_LENGTH:
        sentence = sentence[:MESSAGE_LENGTH].rpartition(" ")[0] + " ..."
    return sentence or type(error).__name__


def read_text(path: Path) -> str:
    """Return a small text file.

    Raises ModelError where it cannot be read, is too large or is a git-lfs pointer.
    """
    try:
        data, _ = read_stamped(path, SMALL_FILE_BYTES)
        if data.startswith(LFS_POINTER):
            raise ModelError(pointer_message(path))
        return data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: expected a text file, found: {one_line(error)}; fetch the file again"
        ) from None


def read_json(path: Path, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a JSON object from a file, members of some names left out at any depth. Raises
    ModelError.
    """

    # Left out while parsing, at every depth.
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in pairs if name not in without}

    try:
        content = json.loads(read_text(path), object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected JSON, found: {one_line(error)}; fetch the file again"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(
            f"{path}: expected a JSON object, found {type(content).__name__}; fetch the file again"
        )
    return content


def weight_files(path: Path) -> list[str]:
    """Return names of the files that transformers loads weights from, in its order of preference;
    empty where none is there.

    One file before several, safetensors before pickled tensors; of several files, those that the
    index names.
    """
    file_names = (
        read_json(path / CONFIG).get("transformers_weights") if (path / CONFIG).is_file() else None
    )
    # transformers' own order: what it would load is what counts.
    candidates = (
        *("model.safetensors", "model.safetensors.index.json"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json"),
    )
    for name in (file_names,) if isinstance(file_names, str) else candidates:
        if (path / name).is_file():
            return _shards(path / name) if name.endswith(".index.json") else [name]
    return [file_names] if isinstance(file_names, str) else []


def _shards(index: Path) -> list[str]:
    """Return the files that an index of weights names. Raises ModelError."""
    weight_map = read_json(index).get("weight_map")
    shards = (
        set(weight_map.values())
        if isinstance(weight_map, dict) and _all_texts(weight_map)
        else set()
    )
    # Names from a file are joined to the folder: none may lead out of it.
    if not shards or any(
        shard in ("", ".", "..") or re.search(r"[/\\\0]", shard) for shard in shards
    ):
        raise ModelError(
            f"{index}: expected weight_map to name files of this folder, found something else; "
            "fetch the file again"
        )
    return sorted(shards)


def _all_texts(weight_map: dict[str, Any]) -> bool:
    return all(isinstance(shard, str) for shard in weight_map.values())


def missing_files(path: Path, weights: bool) -> str:
    """Return the first missing file of a model's folder, or an empty string."""
    if not (path / CONFIG).is_file():
        return CONFIG
    if not weights:
        return ""
    names = weight_files(path) or ["model.safetensors"]
    return next((name for name in names if not (path / name).is_file()), "")


def has_tokenizer(path: Path) -> bool:
    """Return whether a model's folder has a tokenizer."""
    return any(True for _ in _matching(path, VOCABULARIES))


def has_processor(path: Path) -> bool:
    """Return whether a model's folder has an image processor."""
    return any((path / name).is_file() for name in PROCESSORS)


def settings_files(path: Path) -> list[Path]:
    """Return the JSON files of settings that are read of a model; an encoder alone has no
    tokenizer's.
    """
    text = TEXT_SETTINGS if _reads_text(path) else ()
    video = VIDEO_SETTINGS if _takes_videos(path) else ()
    return list(_matching(path, (CONFIG, *PROCESSORS, *video, *text)))


def text_files(path: Path) -> list[Path]:
    """Return the chat templates and vocabularies that are read of a model; an encoder alone has
    none.
    """
    return list(_matching(path, (*TEMPLATES, *VOCABULARIES))) if _reads_text(path) else []


def _takes_videos(path: Path) -> bool:
    return read_json(path / CONFIG).get("model_type") in TAKES_VIDEOS


def _reads_text(path: Path) -> bool:
    return reads_text(str(read_json(path / CONFIG).get("model_type")))


def _matching(path: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(file for file in path.glob(pattern) if file.is_file())


def pointer_message(path: Path) -> str:
    """Return the message about a file that is a git-lfs pointer."""
    return (
        f"{path}: expected the file itself, found a git-lfs pointer to it; fetch the files of the "
        "clone with "
        "`git lfs pull`"
    )


def is_pointer(path: Path) -> bool:
    """Return whether a file is the few lines that git leaves in the place of a large file."""
    try:
        # Only a small file is read: a pointer has three lines.
        if path.stat().st_size > POINTER_BYTES:
            return False
        return read_stamped(path, POINTER_BYTES)[0].startswith(LFS_POINTER)
    except OSError:
        return False


def first_pointer(path: Path, weights: bool) -> Path | None:
    """Return the first file of a model that is a git-lfs pointer."""
    if is_pointer(path / CONFIG):
        return path / CONFIG
    files = [path / name for name in weight_files(path)] if weights else []
    return next(
        (file for file in [*files, *settings_files(path), *text_files(path)] if is_pointer(file)),
        None,
    )


def folder_revision(path: Path) -> str:
    """Identity of what a folder's model computes: "files-" and 16 hex digits over all that is read
    of it.

    These are every byte of the weights that are loaded, the tokenizer's files and chat templates,
    and the settings of the JSON files, whatever their layout and whatever they say of where the
    model came from. The folder's place, names of weight files, README and the like are no part of
    it. A file is hashed once and then known by size, times and inode, so that this takes
    milliseconds from the second time on. Raises ModelError.
    """
    # Files of a hub cache are links to blobs: what two commits share is hashed once.
    weights = [(path / name).resolve() for name in weight_files(path)]
    texts = {str(file.relative_to(path)): file.resolve() for file in text_files(path)}
    _say_long_hash(path, weights)
    # Digested together, so that what is remembered is looked up once.
    digests = digest_files([*weights, *texts.values()])
    if unread := [file for file, digest in digests.items() if not digest]:
        raise ModelError(
            f"{unread[0]}: expected a file that can be read, found none; check its permissions"
        )
    # Weights are known by their bytes in the order of loading, other files by their names as well.
    parts = [digests[file] for file in weights]
    parts += [f"{name}:{digests[file]}" for name, file in texts.items()]
    parts += [f"{file.name}:{_settings(file)}" for file in settings_files(path)]
    return f"files-{digest_texts(parts)[:16]}"


def _say_long_hash(path: Path, weights: list[Path]) -> None:
    todo = bytes_to_hash(weights)
    if todo > LONG_HASH_BYTES:
        logging.getLogger("kvtool").info(
            "model %s: hashing %.1f GB of weights, by which a model is known; this is done once",
            path,
            todo / 1e9,
        )


def _settings(file: Path) -> str:
    """Return what a JSON file of settings says, in one spelling."""
    content = read_json(file, without=ORIGINS)
    if file.name == GENERATION:
        # Answers are greedy: of these settings only the tokens that end them are read.
        content = {"eos_token_id": content.get("eos_token_id")}
    try:
        return json.dumps(content, sort_keys=True)
    except RecursionError as error:
        raise ModelError(
            f"{file}: expected settings, found: {one_line(error)}; fetch the file again"
        ) from None
