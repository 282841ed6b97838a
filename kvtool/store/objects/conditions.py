"""Whether a service keeps to the condition of a PUT, on which commits and claims stand."""

from __future__ import annotations

import secrets
from contextlib import suppress

from kvtool.errors import StoreError
from kvtool.store.objects.bucket import Bucket


def check_conditions(bucket: Bucket) -> None:
    """Raise StoreError where a service ignores the condition of a PUT: two writers would both
    believe that they were first.
    """
    # A key of its own, so that several processes may try at once.
    key = f"tmp/.condition-{secrets.token_hex(8)}"
    try:
        created = bucket.create(key, b"first")
        created_again = bucket.create(key, b"second")
        # The first swap changes the version, after which the second one has to fail.
        swapped = created and bucket.swap(key, b"third", created)
        swapped_again = created and bucket.swap(key, b"fourth", created)
    finally:
        with suppress(StoreError):
            bucket.delete([key])
    if created is None or created_again is not None or not swapped or swapped_again:
        raise StoreError(
            f"store {bucket.address}: expected a service that puts an object on a condition "
            "(If-None-Match, If-Match), found one that ignores it: two writers would overwrite "
            "each other; write in a folder, then `kvtool store copy` it"
        )
