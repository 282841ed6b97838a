"""What a disk may hold after a power cut, from a record of system calls.

Two models. *Journal*, as ext4 in its usual modes: names change in the order of the calls, any fsync
makes all earlier changes of names durable, and data that was not fsynced may be absent, torn, zeros
or garbage. *Loose*, what POSIX promises and no more: fsync of a file keeps its bytes but no name,
fsync of a folder keeps its names; all other changes may be there or not in any combination in which
a name's changes stay in order. A rename is atomic in both.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, Literal

Model = Literal["journal", "loose"]
Tree = dict[str, Any]
"""Names in a folder; a file's bytes, or the tree of a folder."""


@dataclass(frozen=True)
class Event:
    """A call that changes a disk, or a report.

    name: "create", "mkdir", "write", "fsync", "rename", "link", "remove", "truncate" or "report";
    paths are relative to the recorded folder; number: of the open file, size of a truncation.
    """

    name: str
    path: str = ""
    path2: str = ""
    number: int = 0
    data: bytes = b""


@dataclass(eq=False)
class Node:
    """A file or folder.

    data: its bytes now; safe: its bytes at the last fsync. names: those of a folder, now;
    safe_names: those that are durable.
    """

    folder: bool
    data: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    names: dict[str, Node] = field(default_factory=dict)
    safe_names: dict[str, Node] = field(default_factory=dict)


Names = dict[Node, dict[str, Node]]


@dataclass(eq=False)
class Change:
    """Names that change at once: (folder, name, what it names from then on, None for nothing)."""

    entries: list[tuple[Node, str, Node | None]]


class Disk:
    """A disk that has been through some events."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.root = Node(folder=True)
        self.pending: list[Change] = []
        self.reported: list[str] = []
        self._open: dict[int, Node] = {}
        self._nodes: list[Node] = []

    def apply(self, event: Event) -> None:
        if event.name == "report":
            self.reported.append(event.path)
        elif event.name in ("create", "mkdir"):
            node = Node(folder=event.name == "mkdir")
            self._change((event.path, node))
            self._nodes.append(node)
            self._open[event.number] = node
        elif event.name == "open":
            self._open[event.number] = self._node(event.path)
        elif event.name == "write":
            self._open[event.number].data += event.data
        elif event.name == "truncate":
            del self._node(event.path).data[event.number :]
        elif event.name == "fsync":
            self._fsync(self._open[event.number])
        elif event.name == "rename":
            self._change((event.path2, self._node(event.path)), (event.path, None))
        elif event.name == "link":
            self._change((event.path2, self._node(event.path)))
        elif event.name == "remove":
            self._change((event.path, None))

    def _fsync(self, node: Node) -> None:
        if not node.folder:
            node.safe = bytes(node.data)
        if self.model == "journal":
            self._keep(list(self.pending))
        elif node.folder:
            self._keep(
                [
                    change
                    for change in self.pending
                    if any(folder is node for folder, _, _ in change.entries)
                ]
            )

    def _keep(self, changes: list[Change]) -> None:
        """Make changes durable, with all earlier ones of the same names."""
        needed: list[Change] = []
        keys: set[tuple[Node, str]] = set()
        for change in reversed(self.pending):
            touched = {(folder, name) for folder, name, _ in change.entries}
            if change in changes or touched & keys:
                needed.insert(0, change)
                keys |= touched
        for change in needed:
            self.pending.remove(change)
            for folder, name, node in change.entries:
                _name(folder.safe_names, name, node)

    def _change(self, *entries: tuple[str, Node | None]) -> None:
        change = Change(
            [(self._parent(path), PurePosixPath(path).name, node) for path, node in entries]
        )
        for folder, name, node in change.entries:
            _name(folder.names, name, node)
        self.pending.append(change)

    def _node(self, path: str) -> Node:
        node = self.root
        for name in PurePosixPath(path).parts:
            node = node.names[name]
        return node

    def _parent(self, path: str) -> Node:
        return self._node(str(PurePosixPath(path).parent))

    def tree(self) -> Tree:
        """What is there without a cut."""
        return _tree(
            self.root, self._names(self.pending), {node: bytes(node.data) for node in self._nodes}
        )

    def journal_states(self, rng: random.Random) -> Iterator[Tree]:
        """Every prefix of the changes of names, with every way in which each file that is not
        fsynced may be torn.
        """
        for count in range(len(self.pending) + 1):
            names = self._names(self.pending[:count])
            files = _torn_files(self.root, names)
            for variants in product(*(_variants(node, rng) for node in files)):
                yield _tree(self.root, names, dict(zip(files, variants, strict=True)))

    def loose_state(self, rng: random.Random) -> Tree:
        """One combination of changes of names and torn files."""
        share = rng.choice((0.1, 0.5, 0.9))
        survivors: list[Change] = []
        dropped: set[tuple[Node, str]] = set()
        for change in self.pending:
            touched = {(folder, name) for folder, name, _ in change.entries}
            if touched & dropped or rng.random() > share:
                dropped |= touched
            else:
                survivors.append(change)
        names = self._names(survivors)
        torn = {node: rng.choice(_variants(node, rng)) for node in _torn_files(self.root, names)}
        return _tree(self.root, names, torn)

    def _names(self, changes: list[Change]) -> Names:
        """The names in the folders that these changes touch, on top of the durable ones."""
        names: Names = {}
        for change in changes:
            for folder, name, node in change.entries:
                _name(names.setdefault(folder, dict(folder.safe_names)), name, node)
        return names


def _name(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _torn_files(root: Node, names: Names) -> list[Node]:
    """Files that can be reached and whose bytes are not all fsynced."""
    files: list[Node] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        for node in names.get(folder, folder.safe_names).values():
            (folders if node.folder else files).append(node)
    return [node for node in dict.fromkeys(files) if bytes(node.data) != node.safe]


def _variants(node: Node, rng: random.Random) -> list[bytes]:
    """What a file may hold that is not fsynced: as at its last fsync, all, a half, zeros, or a
    block of garbage.
    """
    data, half = bytes(node.data), len(node.data) // 2
    variants = [
        node.safe,
        data,
        data[:half],
        bytes(len(data)),
        data[:half] + rng.randbytes(len(data) - half),
    ]
    return list(dict.fromkeys(variants))


def _tree(folder: Node, names: Names, torn: dict[Node, bytes]) -> Tree:
    return {
        name: _tree(node, names, torn) if node.folder else torn.get(node, node.safe)
        for name, node in sorted(names.get(folder, folder.safe_names).items())
    }


def materialize(tree: Tree, folder: Path) -> None:
    """Write a tree as files below a new folder."""
    folder.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            materialize(content, folder / name)
        else:
            (folder / name).write_bytes(content)
