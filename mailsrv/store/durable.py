"""The one place where bytes become durable: octets, then name, then folder. Nothing else calls fsync or rename on mail.

What waits together is made durable together: all drafts of a batch are written out, then all are renamed, then each
folder is synced once. Where a journal keeps the order, that one sync is all: to be written out, an octet need not have
left the disk's cache, as no name that comes after it can outlive it. Elsewhere the drafts are synced before: by one
syncfs in place of many fsyncs where it is known to wait for the disk (FUSE answers it without doing anything), else
each alone, once writeback has been started for all.

A batch never fails as a whole: every function answers with one outcome for each item, an OSError or None.

What waits for the disk can be left to somebody else: `publishing` hands out each piece of such work, and goes on when
it is given what came of it.
"""

import ctypes
import errno
import itertools
import os
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

from mailsrv.store.filesystems import has_honest_syncfs, is_ordered

Outcome: TypeAlias = OSError | None

SPILL_OCTETS: Final = 256 * 1024  # a draft holds this much in memory before it opens its file
SYNCFS_FROM: Final = 3  # for fewer drafts than this, fsync is the faster one

_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNC_FILE_RANGE_WRITE_AND_WAIT: Final = 7
_libc: Final = ctypes.CDLL(None, use_errno=True)
_opened: Final = itertools.count(1)

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)
_P = ParamSpec("_P")

# Work that waits for the disk, one piece after another, each answered with what came of it.
Wait: TypeAlias = Callable[[], list[Outcome]]
Waits: TypeAlias = Generator[Wait, list[Outcome], _T]


class Move(NamedTuple):
    """A finished file, and the name it is to appear under; both on one filesystem."""

    draft: Path
    final: Path


class Spare(NamedTuple):
    """An open file that may be overwritten: nobody else has it, and it has so many octets now."""

    fd: int
    octets: int
    device: int


class Draft:
    """A file being written; nobody takes it for a message until it is published. As a context, it aborts itself."""

    def __init__(self, path: Path, take_spare: Callable[[Path], Spare | None] | None = None) -> None:
        """`take_spare` puts a file that may be overwritten at the path, if there is one."""
        self.path = path
        self.size = 0
        self._take_spare = take_spare
        self._before = 0  # octets that a spare file had
        self._device = -1
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._fd = -1
        self.opened = 0  # the place of this draft among all that were opened

    @property
    def device(self) -> int:
        """The filesystem that the draft, once flushed, lies on."""
        if self._device < 0:
            self._device = os.fstat(self._fd).st_dev
        return self._device

    def fileno(self) -> int:
        """The descriptor, once flushed."""
        return self._fd

    def write(self, octets: bytes) -> None:
        """Append; raises OSError (the disk may be full)."""
        self._waiting.append(octets)
        self._waiting_octets += len(octets)
        self.size += len(octets)
        if self._waiting_octets > SPILL_OCTETS:
            self.flush()

    def flush(self) -> None:
        """Hand everything written so far to the kernel; raises OSError."""
        if self._fd < 0:
            self._open()
        if not self._waiting:
            return
        octets = b"".join(self._waiting)
        self._waiting, self._waiting_octets = [], 0
        _write_all(self._fd, octets)

    def finish(self) -> None:
        """Hand all of it to the kernel, and cut off what a spare file had beyond it; raises OSError."""
        self.flush()
        if self._before > self.size:
            os.ftruncate(self._fd, self.size)
            self._before = 0

    def _open(self) -> None:
        spare = self._take_spare(self.path) if self._take_spare else None
        if spare is not None:
            self._fd, self._before, self._device = spare
        else:
            self._create()
        self.opened = next(_opened)

    def _create(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(self.path, flags, 0o600)
        except FileExistsError:
            # Never into a file that exists: a draft left by a crash may be a second name of a delivered message.
            self.path.unlink()
            self._fd = os.open(self.path, flags, 0o600)

    def sync(self) -> None:
        """Wait until the octets are on disk; raises OSError."""
        os.fsync(self._fd)

    def start_writeback(self) -> None:
        """Have the kernel begin to write, without waiting. A hint: errors show at `sync`."""
        _libc.sync_file_range(self._fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)

    def write_out(self) -> None:
        """Wait until the octets have been written, if only into the disk's cache; raises OSError."""
        _write_out(self._fd)

    def close(self) -> None:
        """Let go of the file; it stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def abort(self) -> None:
        """As if it had never been."""
        self.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.abort()


def publish(batch: Sequence[tuple[Draft, Path]]) -> list[Outcome]:
    """Make each draft visible under its final name: whole or not at all, and still there after power loss."""
    return _waited(publishing(batch))


def publishing(batch: Sequence[tuple[Draft, Path]]) -> Waits[list[Outcome]]:
    """`publish`, for one who waits elsewhere."""
    outcomes = yield from _settling([draft for draft, _ in batch])
    settled = [index for index, outcome in enumerate(outcomes) if outcome is None]
    moved = yield from _revealing([Move(batch[index][0].path, batch[index][1]) for index in settled])
    for index, outcome in zip(settled, moved, strict=True):
        outcomes[index] = outcome
    for (draft, _), outcome in zip(batch, outcomes, strict=True):
        if outcome is not None:
            # The error that counts is this one; an unlink that fails as well leaves a draft for the sweep.
            _outcome_of(draft.abort)
    return outcomes


def settle(drafts: Sequence[Draft]) -> list[Outcome]:
    """Put the octets of `drafts` on disk, and close them. Their names are not promised yet."""
    return _waited(_settling(drafts))


def _settling(drafts: Sequence[Draft]) -> Waits[list[Outcome]]:
    outcomes = [_outcome_of(draft.finish) for draft in drafts]
    flushed = [index for index, outcome in enumerate(outcomes) if outcome is None]
    for group in _grouped(flushed, lambda index: drafts[index].device).values():
        together = yield _group_wait([drafts[index] for index in group])
        for index, outcome in zip(group, together, strict=True):
            outcomes[index] = outcome
    for draft in drafts:
        draft.close()
    return outcomes


def reveal(moves: Sequence[Move], between: Callable[[list[Outcome]], int] | None = None) -> list[Outcome]:
    """Rename settled drafts to their final names, and make the names durable.

    `between` is told the outcomes of the renames before they are; it gives the descriptor of a file to which it has
    appended, or -1. What was appended is on disk before anything that is done after this.
    """
    return _waited(_revealing(moves, between))


def _revealing(moves: Sequence[Move], between: Callable[[list[Outcome]], int] | None = None) -> Waits[list[Outcome]]:
    return _then_sync_folders(moves, lambda move: move.draft.rename(move.final), lambda move: move.final, between)


def remove(paths: Sequence[Path], *, must_exist: bool = False) -> list[Outcome]:
    """Remove files for good; one that is gone already counts as removed, unless it `must_exist`."""
    return _waited(_then_sync_folders(paths, lambda path: path.unlink(missing_ok=not must_exist), lambda path: path))


def move(source: Path, final: Path) -> None:
    """Rename a file that is durable already; raises OSError."""
    raise_first(reveal([Move(source, final)]))


def write_file(path: Path, octets: bytes) -> None:
    """Put `octets` in place of what stands at `path`, whole or not at all; raises OSError."""
    draft = Draft(_draft_of(path))
    draft.write(octets)
    raise_first(publish([(draft, path)]))


def write_volatile(path: Path, octets: bytes) -> None:
    """Like `write_file` for what need not survive a power loss: whole or not at all, but nothing waits for the disk."""
    draft = _draft_of(path)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, octets)
    finally:
        os.close(fd)
    draft.rename(path)


def put_away(path: Path, place: Path | None = None) -> Outcome:
    """`forget`, but keep the file to be written anew, at `place` or where `write_volatile` will look for it."""
    return _outcome_of(path.rename, place or _draft_of(path))


def sync(fd: int) -> None:
    """Wait until the octets of an open file are on disk; raises OSError."""
    os.fdatasync(fd)


def forget_draft_of(path: Path) -> Outcome:
    """Remove what a process has left that died while it wrote `path`; to be called by its one writer."""
    return _outcome_of(_draft_of(path).unlink, missing_ok=True)


def forget(paths: Sequence[Path]) -> list[Outcome]:
    """Like `remove`, without waiting for the disk: after power loss a file may be back."""
    return [_outcome_of(path.unlink, missing_ok=True) for path in paths]


def copy_name(source: Path, link: Path) -> bool:
    """Give the octets of `source` a second name, replacing what stood there; False where the filesystem cannot."""
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(source)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            return False
        raise
    return True


def raise_first(outcomes: Iterable[Outcome]) -> None:
    """Raise the first error of `outcomes`, if there is one."""
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def _group_wait(drafts: Sequence[Draft]) -> Wait:
    """Have drafts of one filesystem written out, so that no name that they get afterwards can outlive their octets."""
    # syncfs tells of errors since its descriptor was opened: the first one opened has seen them all.
    first = min(drafts, key=lambda draft: draft.opened).fileno()
    if is_ordered(first):
        wait = Draft.write_out
    elif len(drafts) >= SYNCFS_FROM and has_honest_syncfs(first):
        return lambda: [_outcome_of(_syncfs, first)] * len(drafts)
    else:
        wait = Draft.sync
    for draft in drafts[1:]:  # the first one is waited for at once
        draft.start_writeback()
    return lambda: [_outcome_of(wait, draft) for draft in drafts]


def _then_sync_folders(
    items: Sequence[_T],
    work: Callable[[_T], object],
    path_of: Callable[[_T], Path],
    between: Callable[[list[Outcome]], int] | None = None,
) -> Waits[list[Outcome]]:
    """Do `work` on each item, then make the names in the folder of each path that it changed durable."""
    outcomes = [_outcome_of(work, item) for item in items]
    noted = between(outcomes) if between else -1
    changed = [index for index, outcome in enumerate(outcomes) if outcome is None]
    folders = _grouped(changed, lambda index: os.path.dirname(path_of(items[index])) or ".")  # noqa: PTH120 - often
    synced = yield from _syncing(list(folders), noted)
    for group, outcome in zip(folders.values(), synced, strict=True):
        for index in group:
            outcomes[index] = outcome
    return outcomes


def _syncing(folders: Sequence[str], noted: int) -> Waits[list[Outcome]]:
    """Sync folders, and with them the file that is open as `noted`, if there is one: its failure keeps back no mail."""
    fds: list[int] = []
    try:
        for folder in folders:
            fds.append(_open_folder(folder))
        return (yield _folders_wait(fds, noted)) if fds or noted >= 0 else []
    except OSError as error:  # a folder went away: none of the names is promised
        return [error] * len(folders)
    finally:
        for fd in fds:
            os.close(fd)


def _folders_wait(fds: Sequence[int], noted: int) -> Wait:
    devices = {os.fstat(fd).st_dev for fd in fds} if len(fds) >= SYNCFS_FROM else set()
    is_together = len(devices) == 1 and has_honest_syncfs(fds[0])
    is_noted_alone = noted >= 0 and not (is_together and os.fstat(noted).st_dev in devices)

    def wait() -> list[Outcome]:
        if is_noted_alone:
            _outcome_of(_sync_before_later, noted)
        if is_together:
            return [_outcome_of(_syncfs, fds[0])] * len(fds)
        return [_outcome_of(os.fsync, fd) for fd in fds]

    return wait


def _waited(waits: Waits[_T]) -> _T:
    """What comes of it, waiting here."""
    outcomes: list[Outcome] | None = None
    try:
        while True:
            outcomes = (next(waits) if outcomes is None else waits.send(outcomes))()
    except StopIteration as end:
        return cast(_T, end.value)


def _open_folder(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _sync_before_later(fd: int) -> None:
    """Have appended octets be on disk before anything that is done later; where possible, without a sync."""
    if is_ordered(fd):
        _write_out(fd)
    else:
        os.fsync(fd)


def _write_out(fd: int) -> None:
    if _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE_AND_WAIT) != 0:
        _raise_errno()


def _syncfs(fd: int) -> None:
    if _libc.syncfs(fd) != 0:
        _raise_errno()


def _raise_errno() -> None:
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))


def _write_all(fd: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _outcome_of(work: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs) -> Outcome:
    try:
        work(*args, **kwargs)
    except OSError as error:
        return error
    return None


def _grouped(indices: Iterable[int], key: Callable[[int], _K]) -> dict[_K, list[int]]:
    groups: dict[_K, list[int]] = {}
    for index in indices:
        groups.setdefault(key(index), []).append(index)
    return groups
