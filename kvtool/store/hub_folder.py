"""A folder of a data set on the Hugging Face hub, as huggingface_hub reads and writes it.

Nothing is sent or asked for but through the functions of this module, and all that they raise is
one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool._version import __version__
from kvtool.errors import StoreError, UsageError
from kvtool.store.files import os_errors

_REPO_TYPE = "dataset"
_NAME = r"[A-Za-z0-9][\w.-]*"
_REVISION = r"[\w.-]+"
_ADDRESS = re.compile(
    rf"hf://datasets/(?P<repo>{_NAME}/{_NAME})"
    rf"(?:@(?P<revision>refs/(?:pr|convert)/{_REVISION}|{_REVISION}))?"
    rf"(?P<path>(?:/{_NAME})*)/?"
    rf"(?:@(?P<last>{_REVISION}(?:/{_REVISION})*))?",
    re.ASCII,
)
"""The revision stands behind the name, as in other addresses of the hub, or at the end."""
_LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class HubFolder:
    """A folder of a data set on the hub; an empty path is all of the data set.

    Attributes:
        repo: OWNER/NAME.
        path: The folder, without slashes around it.
        revision: A branch, tag or commit; None is the main branch.
    """

    repo: str
    path: str = ""
    revision: str | None = None

    @classmethod
    def parse(cls, address: str) -> HubFolder:
        """Return the folder of an address. Raises UsageError."""
        match = _ADDRESS.fullmatch(address)
        if match is None or (match["revision"] and match["last"]):
            raise UsageError(
                "address: expected hf://datasets/OWNER/NAME, and perhaps a /path and a @revision, "
                f"found {address!r}"
            )
        return cls(match["repo"], match["path"].strip("/"), match["revision"] or match["last"])

    @property
    def address(self) -> str:
        """The address, without its revision."""
        return "/".join(filter(None, ("hf://datasets", self.repo, self.path)))

    def check_no_revision(self) -> None:
        """Raise UsageError where a revision is given to write to."""
        if self.revision is not None:
            raise UsageError(
                f"address: expected {self.address}, found {self.revision} behind it; a store is "
                "pushed to the main branch"
            )

    def no_store(self) -> StoreError:
        """Return the error of a folder without a store."""
        return StoreError(
            f"store {self.address}: expected a kvtool store in {self.revision or 'the main branch'}"
            ", found none; check the path, or end its push with `kvtool store push`"
        )

    def create(self, public: bool) -> bool:
        """Make the data set where there is none, and return whether it is private.

        Raises StoreError without a token, and where all may read a data set that is to be private.
        """
        from huggingface_hub import get_token

        if get_token() is None:
            raise StoreError(
                f"store {self.address}: expected a token of the hub, found none; {_LOGIN}"
            )
        with self._errors():
            api = _api()
            # A data set that exists keeps its visibility, which is therefore asked for.
            api.create_repo(self.repo, repo_type=_REPO_TYPE, private=not public, exist_ok=True)
            is_private = bool(api.dataset_info(self.repo).private)
        if not (is_private or public):
            raise StoreError(
                f"store {self.address}: expected a private data set, found one that all may read; "
                "give --public if that is meant, or make it private on its page"
            )
        return is_private

    def commit(self) -> str:
        """Return the commit of the revision. Raises StoreError where there is none."""
        with self._errors():
            return str(_api().dataset_info(self.repo, revision=self.revision).sha)

    def has_file(self, name: str) -> bool:
        """Return whether the folder has a file."""
        with self._errors():
            return bool(_api().file_exists(self.repo, self._inside(name), repo_type=_REPO_TYPE))

    def upload(self, folder: Path, ignored: Sequence[str]) -> str:
        """Upload the files of a folder, and return the commit; what is there already is not sent
        again.

        ignored: patterns of files below the folder that are left out.
        """
        with self._errors():
            commit = _api().upload_folder(
                repo_id=self.repo,
                repo_type=_REPO_TYPE,
                folder_path=folder,
                path_in_repo=self.path or None,
                ignore_patterns=list(ignored),
                commit_message=f"Store of kvtool {__version__}",
            )
            return str(commit.oid)

    def download(
        self, target: Path, commit: str, names: Sequence[str], ignored: Sequence[str] = ()
    ) -> Path:
        """Download files of a commit into a folder of this machine, and return where the store
        lies in it. What is there already is not downloaded again.

        names, ignored: patterns of files; `*` matches slashes, too.
        """
        from huggingface_hub import snapshot_download

        with self._errors():
            snapshot_download(
                self.repo,
                repo_type=_REPO_TYPE,
                revision=commit,
                local_dir=target,
                allow_patterns=[self._inside(name) for name in names],
                ignore_patterns=[self._inside(name) for name in ignored],
                library_name="kvtool",
                library_version=__version__,
            )
        return target / self.path

    def _inside(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the hub's client raises into a StoreError of one line."""
        with os_errors(f"store {self.address}: cannot be copied"):
            try:
                yield
            except Exception as error:  # its HTTP client's have no base to name
                if (message := self._message(error)) is None:
                    raise  # of a disk of this machine
                raise StoreError(f"store {self.address}: {message}") from None

    def _message(self, error: Exception) -> str | None:
        """Return what an error of the hub's client means; None of an error of the disk."""
        from huggingface_hub import errors

        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError):
            return (
                f"expected access to a gated data set, found none; accept its terms, and {_LOGIN}"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return (
                f"expected a data set {self.repo} on the hub, found none that may be read; check "
                f"its name, and if it is private {_LOGIN}"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return f"expected a branch, tag or commit {self.revision}, found none; check its name"
        if isinstance(error, errors.LocalTokenNotFoundError) or status == 401:
            return f"expected a token of the hub, found none that it accepts; {_LOGIN}"
        if status == 403:
            return f"expected a token that may write {self.repo}, found one that may not; {_LOGIN}"
        if isinstance(error, errors.OfflineModeIsEnabled):
            return "expected the hub in reach, found HF_HUB_OFFLINE set; unset it"
        # Errors of this machine's disk have a number; those of the client's own do not.
        if isinstance(error, OSError) and status is None and not isinstance(error, ConnectionError):
            return None if error.errno else f"expected the hub in reach, found: {_first(error)}"
        return f"expected an answer of the hub, found: {_first(error)}; try again"


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="kvtool", library_version=__version__)


def _first(error: Exception) -> str:
    """Return the first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
