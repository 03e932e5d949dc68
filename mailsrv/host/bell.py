"""watchdog: file events ring a bell, and say no more than "look"; the scan is the truth.

Events may be lost (an overflow of the kernel's queue is dropped in silence), and three kinds of threads may end: the
reader of the kernel's events, an emitter for each folder, the observer that calls us. So nobody may rely on a ring,
`is_alive` is asked in every turn of the loop, and `test` seldom, for threads that are alive may yet deliver nothing.
"""

import functools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from watchdog.events import FileClosedEvent, FileCreatedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers.inotify import InotifyEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD, Mask

logger = logging.getLogger(__name__)

# A file moved in comes as created, one written in place is whole when it is closed.
_KINDS: Final[list[type[FileSystemEvent]]] = [FileClosedEvent, FileCreatedEvent]
_MASK: Final = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE_SELF
)
_TEST_FILE: Final = ".bell"  # made and removed to hear whether events come; it begins like what is left alone
LONGEST_DEAFNESS: Final = 0.5  # seconds until a reader that is held back hears that it is to end
MOST_CLOSED: Final = 100_000  # names remembered; beyond, files wait until they are settled


class _PromptEmitter(InotifyEmitter):
    """Asks the kernel for no file that is moved out.

    Each claim moves one out, and watchdog holds such an event for half a second, to pair it, and with it all that
    follow: of files dropped one after another, one in a hundred then waited for 100 to 470 ms (now 10).
    """

    def get_event_mask_from_filter(self) -> Mask:
        return _MASK


class Rings(NamedTuple):
    """Whether the bell has rung, and the names of files that were closed after writing."""

    has_rung: bool
    closed: frozenset[str]


class Bell(FileSystemEventHandler):
    """Rings when something has appeared in one of the folders, or when it is rung by hand."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._closed: set[str] = set()
        self._observer: InotifyObserver | None = None
        self._folder: Path | None = None  # where it is tested
        self._places: dict[Path, tuple[int, int]] = {}  # what is watched: device and inode
        self._is_unheard = False  # since the last test nothing was heard
        self._is_waited_for = threading.Event()  # else nobody would hear it

    def watch(self, folders: Sequence[Path]) -> None:
        """Begin to watch, in place of what was watched before; the first folder is where it is tested.

        Raises OSError (a limit of the system, say).
        """
        self.stop()
        observer = InotifyObserver()
        observer._emitter_class = _PromptEmitter  # it has no parameter for it
        reader = observer._inotify_fd
        reader.read_events = functools.partial(self._read, reader, reader.read_events)  # type: ignore[method-assign]
        try:
            self._places = {folder: _identity(folder) for folder in folders}
            for folder in folders:
                observer.schedule(self, os.fspath(folder), event_filter=_KINDS)
            observer.start()
        except BaseException:
            observer.stop()  # it holds one of the few inotify instances that a user may have
            raise
        self._observer = observer
        self._folder, self._is_unheard = folders[0], False

    def test(self) -> bool:
        """Whether anything was heard since the last test; begins another. Raises OSError where none can be made.

        A folder that was moved away, with another in its place, is not heard either. To be called seldom: an event
        takes a moment.
        """
        was_heard = not self._is_unheard and all(_identity(each) == kept for each, kept in self._places.items())
        if self._folder is not None:
            file = self._folder / _TEST_FILE
            self._is_unheard = True
            try:
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                file.unlink()
            except OSError:
                self._is_unheard = False
                raise
        return was_heard

    def break_down(self, part: str) -> None:
        """Have the `observer`, `emitter` or `reader` end as by a fault, or all live in `silence`: for the drill."""
        if self._observer is None:
            return
        if part == "observer":
            self._observer.event_queue.put(0)  # what it cannot unpack
        elif part == "emitter":
            for each in self._observer.emitters:
                each.stop()
        elif part == "reader":
            self._observer._inotify_fd.handle_event = None  # type: ignore[assignment,method-assign]
        else:
            self._observer._inotify_fd.handle_event = lambda event: None  # type: ignore[method-assign]  # noqa: ARG005

    def is_alive(self) -> bool:
        """Whether the observer, its reader and each of its emitters still run."""
        observer = self._observer
        if observer is None:
            return False
        return all(each.is_alive() for each in (observer, observer._inotify_fd, *observer.emitters))

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by the observer's thread, which would end with an exception: so this does next to nothing."""
        self._is_unheard = False
        path = os.fsdecode(event.src_path)
        if path.endswith(f"/{_TEST_FILE}"):
            return
        if isinstance(event, FileClosedEvent) and len(self._closed) < MOST_CLOSED:
            self._closed.add(Path(path).name)
        self._rung.set()

    def _read(self, reader: InotifyFD, read_events: Callable[[], list[InotifyEvent]]) -> list[InotifyEvent]:
        """Leave events to the kernel while nobody waits for a ring.

        Three threads that wake for each event, beside one that is at work, cost it more than the work itself.
        """
        while not self._is_waited_for.wait(LONGEST_DEAFNESS) and reader.should_keep_running():
            pass
        return read_events()

    def ring(self) -> None:
        """Have the next wait end at once."""
        self._rung.set()

    def wait(self, timeout: float) -> Rings:
        """Wait for a ring, at most `timeout` seconds."""
        self._is_waited_for.set()
        has_rung = self._rung.wait(timeout)
        self._is_waited_for.clear()
        self._rung.clear()
        closed, self._closed = self._closed, set()
        return Rings(has_rung, frozenset(closed))

    def stop(self) -> None:
        """Watch no more."""
        if self._observer is not None:
            self._is_waited_for.set()  # the reader hears of its end
            self._observer.stop()
            if self._observer.is_alive():
                self._observer.join()
            self._observer = None


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
