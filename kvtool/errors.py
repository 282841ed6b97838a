"""The errors a user meets. Each is one line: where, what was expected, what was found, what to do.

KvtoolError (exit 1)
├── UsageError (2)            the request itself is off: unknown name, option out of range
├── BusyError (3)             a lock is held or a device is not free: try later
│   └── UnfinishedError (0)   this process did its share, others have not: no result yet
├── ImageError                an image file cannot be decoded
├── DatasetError              a data set's folder or file is not in its official layout
├── ChangedError              pictures are not those that a run was extracted from
├── ModelError                a checkpoint cannot be loaded or is of no known family
├── StoreError                a store cannot be opened or written
│   ├── CorruptError          stored bytes do not match what was written
│   ├── RunConflictError      the run exists with another configuration
│   └── SpaceError            not enough room on the disk
└── PartialError (4)          done in part: some inputs failed, they are listed
"""


class KvtoolError(Exception):
    """Base of all errors that are the user's to solve; `exit_code` is the command's."""

    exit_code = 1


class UsageError(KvtoolError):
    """The request itself is off."""

    exit_code = 2


class BusyError(KvtoolError):
    """A lock is held, or a device is not free."""

    exit_code = 3


class UnfinishedError(BusyError):
    """This process did its share of work that others have not ended."""

    exit_code = 0


class PartialError(KvtoolError):
    """The work is done in part: some inputs failed."""

    exit_code = 4


class ImageError(KvtoolError):
    """An image file cannot be decoded."""


class DatasetError(KvtoolError):
    """A data set's folder or file is not in its official layout."""


class ChangedError(KvtoolError):
    """Pictures are not those that a run was extracted from."""


class ModelError(KvtoolError):
    """A checkpoint cannot be loaded, or is of no known family."""


class StoreError(KvtoolError):
    """A store cannot be opened or written."""


class CorruptError(StoreError):
    """Stored bytes do not match what was written."""


class RunConflictError(StoreError):
    """The run exists with another configuration."""


class SpaceError(StoreError):
    """There is not enough room on the disk."""
