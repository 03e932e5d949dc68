"""The loop of delivery in a process of its own, and the conditions of the machine that it meets."""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import pytest

from mailsrv.config import Config
from mailsrv.daemon.deliverd import Delivery
from mailsrv.settings import Delivery as Settings
from mailsrv.store import ledger
from mailsrv.store.heartbeat import Heart, read_beat
from mailsrv.store.spool import Spool, State
from mailsrv.work import desk, pickup
from mailsrv.work.audit import Audit
from tests import killing
from tests.work.instance import PEOPLE, config_of, letters, make, names_in, unfinished

SETTINGS: Final = Settings(retry_after=(1.0,), settle_seconds=0.05, scan_interval=0.3)
PATIENCE: Final = 30.0  # seconds
MAIL: Final = b"From: alice@example.org\nTo: bob@example.org\nSubject: x\n\nHello.\n"
NOBODY: Final = 65534

T = TypeVar("T")

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount, and be somebody else")


def instance(root: Path) -> Config:
    """A new instance, whose programs run as whoever runs the test."""
    make(root)
    config = replace(config_of(root, SETTINGS), run_as="root")
    config.run.mkdir(exist_ok=True)
    ledger.begin(config.books)
    return config


def wait_until(condition: Callable[[], T], what: str) -> T:
    """Wait until `condition` gives something true, and give that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.01)
    return found


class Running:
    """`delivery`, as a context; `prepare` is done in its process first."""

    def __init__(self, config: Config, prepare: Callable[[], object] = lambda: None) -> None:
        self._config = config
        self._prepare = prepare
        self.pid = 0

    def __enter__(self) -> "Running":
        self.pid = killing.start(self._run)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.kill(self.pid, signal.SIGCONT)
        os.kill(self.pid, signal.SIGTERM if kind is None else signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert kind is not None or code == 0, "it has died, its traceback is on stderr"

    def wait_turns(self, number: int = 2) -> None:
        """Wait until it has looked at everything so many times; it looks at least at each scan."""
        before = self.log().count("turn")
        wait_until(lambda: self.log().count("turn") >= before + number, f"{number} turns")

    def facts(self) -> dict[str, object]:
        """What it has told with its last heartbeat."""
        beat = read_beat(self._config.beat_path("delivery"))
        return dict(beat.facts) if beat and beat.pid == self.pid else {}

    def log(self) -> str:
        """What it has logged."""
        path = self._log
        return path.read_text() if path.exists() else ""

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Within, it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: " T " in Path(f"/proc/{self.pid}/stat").read_text().partition(")")[2][:4], "it stands")
        yield
        os.kill(self.pid, signal.SIGCONT)

    @property
    def _log(self) -> Path:
        return self._config.root / "delivery.log"

    def _run(self) -> None:
        logging.basicConfig(filename=self._log, level=logging.INFO, force=True)
        desk.FAULT_PAUSE = pickup.FAULT_PAUSE = 0.2  # type: ignore[misc]
        os.chdir(self._config.root)  # as every program does: nobody else may enter the folders above
        self._prepare()
        config = replace(self._config, root=Path())
        delivery = _Told(config, Heart(config.beat_path("delivery")))
        signal.signal(signal.SIGTERM, delivery.stop)
        delivery.run()


class _Told(Delivery):
    def _look(self, closed: frozenset[str]) -> None:
        super()._look(closed)
        logging.info("turn")


def become(uid: int) -> None:
    """Be another user for good, and own all of the instance, which is the current folder."""
    for path in (Path(), *Path().rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def assert_arrived_once(config: Config, **expected: int) -> None:
    """Wait until so many letters are in each mailbox; then nothing waits any more, and the books balance."""

    def found() -> Counter[str]:
        return Counter({name: len(letters(config, name)) for name in PEOPLE if letters(config, name)})

    wait_until(lambda: found() == Counter(expected), f"{expected} in the mailboxes, not {found()}")
    wait_until(lambda: not unfinished(config), "nothing is left unfinished")
    # A letter whose folder could not be synced is there, and is looked for at the next attempt.
    wait_until(lambda: not names_in(Spool(config.spool).folder(State.DEFERRED)), "nothing is deferred")
    assert names_in(Spool(config.spool).folder(State.HOLD)) == []
    assert found() == Counter(expected)
    audited = Audit(config).run()
    assert (audited.missing, audited.doubled) == ((), ())


def mount(kind: str, source: str, place: Path, options: str = "") -> None:
    """Mount; the test is skipped where that is not possible."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", kind, *(["-o", options] if options else []), source, str(place)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no {kind} can be mounted here: {done.stderr.strip()}")


def unmount(place: Path) -> None:
    """Undo a mount, at once also where something is still open."""
    subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


def fill(folder: Path) -> Path:
    """Take all that is left of a filesystem; gives the file that does."""
    path = folder / ".filler"
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return path


class Inotify:
    """The kernel's own events of a folder, to see what others may have missed; `init` makes one more instance."""

    OVERFLOW: Final = 0x4000
    CREATE: Final = 0x180  # by writing or by moving in

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._libc.inotify_add_watch(self._fd, os.fsencode(folder), self.CREATE) > 0

    def has_overflown(self) -> bool:
        """Read all; whether the kernel had to drop events."""
        masks = 0
        with contextlib.suppress(BlockingIOError):
            while octets := os.read(self._fd, 65_536):
                while octets:
                    masks |= int.from_bytes(octets[4:8], "little")
                    octets = octets[16 + int.from_bytes(octets[12:16], "little") :]
        return bool(masks & self.OVERFLOW)

    def close(self) -> None:
        os.close(self._fd)


def take_all_inotify_instances() -> list[int]:
    """Until the user's limit is reached."""
    libc = ctypes.CDLL(None, use_errno=True)
    taken: list[int] = []
    while (fd := libc.inotify_init1(os.O_CLOEXEC)) >= 0:
        taken.append(fd)
    return taken


NEW_USERS: Final = 0x10000000  # CLONE_NEWUSER
WATCHES: Final = Path("/proc/sys/user/max_inotify_watches")


def limit_watches(number: int) -> None:
    """From now on this process, and nobody else, may have so few watches: it is root of a namespace of its own."""
    me, us = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_USERS):
        raise OSError(ctypes.get_errno(), "no namespace of its own")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {me} 1\n")
    Path("/proc/self/gid_map").write_text(f"0 {us} 1\n")
    WATCHES.write_text(f"{number}\n")


def can_limit_watches() -> bool:
    """Whether that is possible here."""
    pid = killing.start(lambda: os._exit(0 if _try_to_limit() else 1))
    return os.waitpid(pid, 0)[1] == 0


def _try_to_limit() -> bool:
    with contextlib.suppress(OSError):
        limit_watches(1)
        return True
    return False
