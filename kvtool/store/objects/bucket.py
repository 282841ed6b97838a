"""Objects below an address: read, listed, put and deleted, with errors of one line.

obstore does the talking; endpoints and credentials come from the variables that are usual for each
service (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.errors import StoreError

EXTRA = "pip install 'kvtool[s3]'"
MULTIPART_BYTES = 64 << 20
"""Larger objects are put in several requests."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""The usual variables of each service."""
ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""The variables that name another server than the usual one, the first that is set."""
ACCOUNTS = {"az": "AZURE_STORAGE_ACCOUNT_NAME"}
"""The variable of the account, of services whose addresses lack it."""
_CODE = re.compile(r"<Code>(\w+)</Code>")
_WITHOUT_CREDENTIALS = (
    *("Missing AccessKeyId", "Missing SecretAccessKey", "Account must be specified"),
    # Where a machine of a cloud asks for credentials; elsewhere there are none to be had.
    *("169.254.169.254", "metadata.google.internal"),
)
"""What an error says where nobody gave any."""


@dataclass(frozen=True)
class Version:
    """What an object was when it was read, for writes on the condition that it still is."""

    e_tag: str | None
    number: str | None = None

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Version:
        """Return the version that a service's answer names."""
        return cls(meta["e_tag"], meta["version"])

    def condition(self) -> dict[str, str]:
        """Return what obstore takes as the condition of a PUT; services use one or the other."""
        names = {"e_tag": self.e_tag, "version": self.number}
        return {name: value for name, value in names.items() if value is not None}


@dataclass(frozen=True)
class ObjectEntry:
    """An object as it is listed: key, size, when it was put (seconds since the epoch)."""

    key: str
    nbytes: int
    modified_s: float
    version: Version


def endpoint(address: str) -> str:
    """Return the server that variables name for the service of an address; empty for its own."""
    names = ENDPOINTS.get(address.partition(":")[0], ())
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def full_address(address: str) -> str:
    """Return an address with the server, and where it lacks it the account, that it means here."""
    account = ACCOUNTS.get(address.partition(":")[0])
    accounts = [os.environ.get(account, "")] if account else []
    return " ".join([endpoint(address), *accounts, address])


class Bucket:
    """The objects below an address such as s3://bucket/spair.kv, by their keys from there on."""

    def __init__(self, address: str, objects: Any) -> None:
        self.address = address
        self.objects = objects

    @classmethod
    def open(cls, address: str, retries: int | None = None) -> Bucket:
        """Return the objects below an address; nothing is asked of the service yet.

        retries: how often a request that failed is tried again; None leaves it to obstore, which
            goes on for three minutes. Raises StoreError where obstore is not installed.
        """
        try:
            from obstore.store import from_url
        except ImportError:
            raise StoreError(
                f"store {address}: expected obstore for object stores, which is not installed: "
                f"{EXTRA}"
            ) from None
        # An endpoint without TLS is named by its user, who knows.
        allow_http = endpoint(address).startswith("http:")
        options: dict[str, Any] = {"client_options": {"allow_http": allow_http}}
        if retries is not None:
            options["retry_config"] = {"max_retries": retries}
        with errors(address):
            return cls(address, from_url(address, **options))

    def get(self, key: str) -> bytes | None:
        """Return the bytes of an object, None where there is none."""
        entry = self.fetch(key)
        return None if entry is None else entry[0]

    def fetch(self, key: str) -> tuple[bytes, ObjectEntry] | None:
        """Return the bytes of an object and what it is, None where there is none."""
        import obstore

        with errors(self.address):
            try:
                response = obstore.get(self.objects, key)
                return bytes(response.bytes()), _entry(response.meta)
            except FileNotFoundError as error:
                # A missing bucket looks like a missing object: only the bucket is an error here.
                _refuse_bucket(self.address, error)
                return None

    def pieces(self, key: str) -> Iterator[Any]:
        """Yield the bytes of an object in buffers. Raises FileNotFoundError."""
        import obstore

        with errors(self.address):
            yield from obstore.get(self.objects, key).stream()

    def get_range(self, key: str, start: int, stop: int) -> tuple[Any, int]:
        """Return the bytes from start to stop - 1, and the size of the object.

        Raises FileNotFoundError.
        """
        import obstore

        with errors(self.address):
            response = obstore.get(self.objects, key, options={"range": (start, stop)})
            return response.bytes(), int(response.meta["size"])

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """Return the bytes of each (start, stop), fetched side by side."""
        import obstore

        starts = [start for start, _ in ranges]
        with errors(self.address):
            return list(
                obstore.get_ranges(
                    self.objects, key, starts=starts, ends=[stop for _, stop in ranges]
                )
            )

    def put(self, key: str, data: bytes | Path) -> None:
        """Put an object, whether or not there is one. The service checks the request's SHA-256."""
        self._put(key, data, "overwrite")

    def create(self, key: str, data: bytes) -> Version | None:
        """Put an object on the condition that there is none; None where there is one."""
        import obstore.exceptions

        try:
            return self._put(key, data, "create")
        except obstore.exceptions.AlreadyExistsError:
            return None

    def swap(self, key: str, data: bytes, version: Version) -> Version | None:
        """Put an object on the condition that it is still this version; None where it is not."""
        import obstore.exceptions

        try:
            return self._put(key, data, version.condition())
        except (obstore.exceptions.PreconditionError, FileNotFoundError):
            return None

    def _put(self, key: str, data: bytes | Path, mode: Any) -> Version:
        import obstore

        with errors(self.address):
            try:
                # Writes on a condition are single requests, whatever their size.
                nbytes = len(data) if isinstance(data, bytes) else data.stat().st_size
                is_large = mode == "overwrite" and nbytes > MULTIPART_BYTES
                return Version.of(
                    obstore.put(self.objects, key, data, mode=mode, use_multipart=is_large)
                )
            except FileNotFoundError as error:
                _refuse_bucket(self.address, error)
                raise

    def list(self, prefix: str) -> Iterator[ObjectEntry]:
        """Yield the objects whose keys lie below a prefix, which ends at a slash of theirs."""
        import obstore

        with errors(self.address):
            try:
                for batch in obstore.list(self.objects, prefix or None):
                    yield from map(_entry, batch)
            except FileNotFoundError as error:
                _refuse_bucket(self.address, error)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; keys without one are fine."""
        import obstore

        listed_keys = list(keys)
        with errors(self.address):
            # Services take a thousand keys a request at most.
            for start in range(0, len(listed_keys), 1000):
                try:
                    obstore.delete(self.objects, listed_keys[start : start + 1000])
                except FileNotFoundError as error:
                    _refuse_bucket(self.address, error)


def _entry(meta: Mapping[str, Any]) -> ObjectEntry:
    return ObjectEntry(
        meta["path"], meta["size"], meta["last_modified"].timestamp(), Version.of(meta)
    )


@contextmanager
def errors(address: str) -> Iterator[None]:
    """Turn what a service refuses into a StoreError of one line.

    An object that is not there, or whose condition does not hold, is told to the caller.
    """
    from obstore import exceptions

    # Answers to a condition are no errors of the service: the caller acts on them.
    expected = (exceptions.AlreadyExistsError, exceptions.PreconditionError, FileNotFoundError)
    try:
        yield
    except expected:
        raise
    except exceptions.BaseError as error:
        raise StoreError(f"store {address}: {_reason(address, error)}") from error


def _refuse_bucket(address: str, error: FileNotFoundError) -> None:
    """Raise StoreError where not the object but the bucket is not there."""
    if any(word in str(error) for word in ("NoSuchBucket", "ContainerNotFound", "bucket does not")):
        bucket = address.partition("://")[2].partition("/")[0]
        raise StoreError(
            f"store {address}: expected the bucket {bucket}, found none: make it, or name another"
        ) from error


def _reason(address: str, error: Exception) -> str:
    """Return what went wrong and what to do, in one line."""
    from obstore import exceptions

    text = str(error)
    scheme = address.partition(":")[0]
    # The service's own code is the surest sign of what went wrong.
    code = match[1] if (match := _CODE.search(text)) else ""
    credentials = CREDENTIALS.get(scheme, CREDENTIALS["s3"])
    denied = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if any(word in text for word in _WITHOUT_CREDENTIALS):
        return f"expected credentials, found none: set {credentials}"
    if "Invalid Access Key" in text:
        return f"expected a key that can be read: check {credentials}"
    if isinstance(error, denied) or code in ("AccessDenied", "InvalidAccessKeyId"):
        return f"access is denied ({code or type(error).__name__}): check {credentials}"
    if "error sending request" in text or "timed out" in text:
        host = f" at {server}" if (server := endpoint(address)) else ""
        return f"the service cannot be reached{host}: check the network and the endpoint"
    first_line = text.splitlines()[0] if text else type(error).__name__
    return f"the service answers {code or first_line[:300]}: try again, or look at its log"
