"""The errors a user meets. Each is one line: where, what was expected, what was found, what to do.

KvtoolError (exit 1)
├── UsageError (2)            the request itself is off: unknown name, option out of range
├── BusyError (3)             a lock is held or a device is not free: try later
│   └── UnfinishedError (0)   this process did its share of work that others have not ended: no result yet
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
    exit_code = 2


class BusyError(KvtoolError):
    exit_code = 3


class UnfinishedError(BusyError):
    exit_code = 0


class PartialError(KvtoolError):
    exit_code = 4


class ImageError(KvtoolError):
    pass


class DatasetError(KvtoolError):
    pass


class ChangedError(KvtoolError):
    pass


class ModelError(KvtoolError):
    pass


class StoreError(KvtoolError):
    pass


class CorruptError(StoreError):
    pass


class RunConflictError(StoreError):
    pass


class SpaceError(StoreError):
    pass
