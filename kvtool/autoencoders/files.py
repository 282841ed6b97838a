"""The files of SAEs on disk, found and told apart without reading a weight or loading torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from kvtool.autoencoders.hooks import hook_of, layer_of
from kvtool.datasets.names import is_hidden
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.digests import digest_files, digest_texts
from kvtool.errors import KvtoolError, UsageError

MOST_FILES = 10_000
"""So many weight files are looked at below a folder."""
WEIGHT_FILES = (
    "params.npz",
    "params.safetensors",
    "sae_weights.safetensors",
    "sae.safetensors",
    "ae.pt",
    "sae.pt",
    "*.sae.pt",
    "checkpoints/final.safetensors",
    "checkpoint/sae.pt",
    "*.pt",
)
"""Names of the files that hold an SAE's weights, in a folder of one SAE."""
SETTINGS_FILES = ("cfg.json", "config.json", "activation_scaler.json", "../hyperparams.json")
"""Files beside the weights that formats read, by their place from there."""
LABEL_PARTS = 3
"""So many last parts of a path tell an SAE from others, such as saes/layer_3/ae.pt."""
_TEMPLATE = "{layer}"
_WILDCARDS = re.compile(r"(\{layer\}|\*\*/|\*|\?|\[[^]/]+\])")
_AS_PATTERN = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
"""What a shell's wildcards stand for, as regular expressions."""
_L0 = re.compile(r"(?:average_l0_|[-_]L0[-_])(\d+)")


@dataclass(frozen=True)
class WeightFile:
    """A file that is named as SAEs are.

    Attributes:
        path: The file.
        layer: The decoder layer that a template was filled with or the path says, 0-based; None
            where only the file says it.
    """

    path: Path
    layer: int | None

    @property
    def label(self) -> str:
        """The last parts of the path, which name no more of the user's machine."""
        return label_of(self.path)

    @property
    def settings(self) -> list[Path]:
        """The files beside it that formats may read, whether they are there or not."""
        folder = self.path.parent
        up = folder.parent
        return [
            up / name.removeprefix("../") if name.startswith("../") else folder / name
            for name in SETTINGS_FILES
        ]

    def labeled(self, message: str) -> str:
        """Return a message without the folders that its paths lie in, but for the last."""
        above = Path(*self.path.parts[: -1 - self.label.count("/")])
        return message.replace(f"{above}/", "") if above.name else message


def label_of(path: Path) -> str:
    """Return the last parts of a path: LABEL_PARTS, or more up to the one that says the layer."""
    shipped = demo_saes_path()
    if path.is_relative_to(shipped):
        return path.relative_to(shipped.parent.parent).as_posix()
    parts = [part for part in path.parts if part != path.anchor]
    # The last part that says a layer is never cut off.
    layered = [number for number, part in enumerate(parts) if layer_of(part) is not None]
    first = min([max(0, len(parts) - LABEL_PARTS), *layered[-1:]])
    return "/".join(parts[first:])


def weight_files(
    paths: Iterable[str | PathLike[str]], layers: Sequence[int] | None = None
) -> list[WeightFile]:
    """Find the files of SAEs that paths name, in the order of their layers; see find_saes.

    Raises UsageError where a path names nothing.
    """
    files: dict[Path, WeightFile] = {}
    for path in [_resolved(fspath(name)) for name in paths]:
        candidates = list(_candidates(path, layers))
        if not candidates:
            raise UsageError(
                f"{path}: expected SAE weights ({', '.join(WEIGHT_FILES[:4])}, ...), found none; "
                "give a file, a folder, or a template such as layer_{layer}/width_16k/*"
            )
        for file, layer in candidates:
            # The number that filled a template counts, else the folder's.
            guess = layer_of(file.parent.as_posix()) if layer is None else layer
            files.setdefault(file, WeightFile(file, guess))
    return sorted(files.values(), key=lambda file: (file.layer is None, file.layer or 0, file.path))


def file_digests(files: Sequence[WeightFile]) -> list[str]:
    """Return a digest of each SAE: of the bytes of its files, and of what its path says of it; the
    place that it lies in is none of it.
    """
    paths = [path for file in files for path in (file.path, *file.settings)]
    digests = digest_files(paths)
    return [_digest(file, digests) for file in files]


def _digest(file: WeightFile, digests: Mapping[Path, str]) -> str:
    # Some formats have their layer, place or L0 in the names of folders alone.
    folder = file.path.parent
    facts = (
        *(file.path.name, file.layer, layer_of(file.path.name)),
        *(layer_of(folder.parent.name), hook_of(folder.as_posix()), hook_of(folder.parent.name)),
        *("embedding" in file.path.parts, _L0.findall(file.path.absolute().as_posix())),
    )
    return digest_texts(
        [digests[file.path], *(digests[path] for path in file.settings), *map(repr, facts)]
    )


def _resolved(path: str) -> str:
    """Return a path as it is, and for "demo" the folder of the shipped SAEs."""
    return str(demo_saes_path()) if path == DEMO else path


def _candidates(path: str, layers: Sequence[int] | None) -> Iterator[tuple[Path, int | None]]:
    """Yield the weight files that a path names, with the layer that a template was filled with."""
    if _TEMPLATE not in path:
        for match in _matches(path):
            yield from ((file, None) for file in _weight_files(match))
        return
    if layers is not None:
        for layer in layers:
            for match in _matches(path.replace(_TEMPLATE, str(layer))):
                yield from ((file, layer) for file in _weight_files(match))
        return
    # Without a choice of layers any number takes the layer's place, and is read off the path.
    pattern = _template_pattern(path)
    for match in _matches(path.replace(_TEMPLATE, "*")):
        filled = pattern.fullmatch(match.as_posix())
        if filled is not None:
            yield from ((file, int(filled["layer"])) for file in _weight_files(match))


def _template_pattern(path: str) -> re.Pattern[str]:
    """Return what the paths match that a template names, with the layer as a group."""
    # As the paths that are there are spelled: without a tilde, ./ and a slash at the end.
    spelled = Path(path).expanduser().as_posix()
    pattern, n_layers = "", 0
    for word in _WILDCARDS.split(spelled):
        if word == _TEMPLATE:
            # A second number must be the same one.
            pattern += "(?P=layer)" if n_layers else r"(?P<layer>\d+)"
            n_layers += 1
        elif word.startswith("[") and len(word) > 1:
            pattern += word.replace("[!", "[^", 1)
        else:
            pattern += _AS_PATTERN.get(word, re.escape(word))
    return re.compile(pattern)


def _matches(path: str) -> list[Path]:
    """Return the paths that a pattern names; a path without wildcards is itself, if it is there."""
    expanded = Path(path).expanduser()
    if expanded.exists():
        return [expanded]
    anchor = Path(expanded.anchor)
    relative = expanded.relative_to(anchor) if expanded.anchor else expanded
    return sorted(anchor.glob(str(relative)))


def _weight_files(path: Path) -> list[Path]:
    """Return the weight files at or below a path; of a folder that holds one, that alone."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    for name in WEIGHT_FILES:
        if direct := sorted(path.glob(name)):
            return direct
    # A folder of many SAEs: everything below it that is named as one.
    below: list[Path] = []
    for name in WEIGHT_FILES:
        for file in path.rglob(name):
            # A training that is under way lies in a hidden folder.
            if any(is_hidden(part) for part in file.relative_to(path).parts):
                continue
            below.append(file)
            if len(below) > MOST_FILES:
                raise KvtoolError(f"{path}: more than {MOST_FILES} SAE files; name fewer")
    return sorted(set(below))
