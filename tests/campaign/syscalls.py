"""System calls below one folder, handed to a hook: to record them, to let one fail, or to end the
process at one.

Python's own functions are wrapped where the store, pathlib and shutil look them up, in `os`, and
`open` in `io`. What goes by elsewhere is seen as a record that does not lead to the files that are
there (test_crashes.py compares).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRAPPED = (
    *(
        "open",
        "close",
        "read",
        "pread",
        "preadv",
        "write",
        "pwrite",
        "fsync",
        "fdatasync",
        "posix_fadvise",
    ),
    *(
        "stat",
        "lstat",
        "fstat",
        "access",
        "listdir",
        "scandir",
        "utime",
        "chmod",
        "truncate",
        "ftruncate",
    ),
    *("rename", "replace", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"),
)


@dataclass(frozen=True)
class Call:
    """One system call: its name, the path it is about (of a descriptor, the one it was opened by),
    how to do it.

    path2: the new name of a rename or link. fd: the descriptor that it is given.
    """

    name: str
    path: str
    path2: str
    fd: int | None
    args: tuple[Any, ...]
    run: Callable[..., Any]


Hook = Callable[[Call], Any]


@dataclass
class _Watch:
    """Which calls are about `root`, and what their paths are."""

    root: str
    hook: Hook
    paths: dict[int, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            fd = args[0] if args and isinstance(args[0], int) else None
            with (
                self.lock
            ):  # one at a time, so that a record has them in the order in which they took effect
                path, path2 = self._paths(args, kwargs)
                if path != self.root and not path.startswith(f"{self.root}/"):
                    return function(*args, **kwargs)
                call = Call(
                    name, path, path2, fd, args, lambda *new: function(*(new or args), **kwargs)
                )
                if name == "close":
                    self.paths.pop(args[0], None)
                result = self.hook(call)
                if name == "open":
                    self.paths[result] = path
                return result

        return wrapped

    def _paths(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, str]:
        """The path, and for renames and links the second one; empty where a call has none of
        ours.
        """
        first = kwargs.get("path", args[0] if args else ".")
        second = args[1] if len(args) > 1 and isinstance(args[1], str | os.PathLike) else ""
        folder = kwargs.get("dir_fd")
        return self._path(first, folder), self._path(second, None) if second else ""

    def _path(self, path: Any, dir_fd: int | None) -> str:
        if isinstance(path, int):
            return self.paths.get(path, "")
        text = os.fsdecode(path)
        if dir_fd is not None:
            return f"{self.paths.get(dir_fd, '')}/{text}"
        return os.path.abspath(text)  # noqa: PTH100  Path.absolute would call what is wrapped


@contextmanager
def watched_calls(root: Path, hook: Hook) -> Iterator[None]:
    """Hand each call about something at or below `root` to `hook`, whose answer is the call's;
    other calls pass.
    """
    watch = _Watch(str(root.absolute()), hook)
    originals = {name: getattr(os, name) for name in WRAPPED if hasattr(os, name)}
    open_file = io.open
    for name, function in originals.items():
        setattr(os, name, watch.wrap(name, function))
    io.open = watch.wrap("open file", open_file)
    try:
        yield
    finally:
        io.open = open_file
        for name, function in originals.items():
            setattr(os, name, function)
