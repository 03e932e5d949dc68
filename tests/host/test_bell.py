"""File events: a hint, whose absence is noticed."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyConstants

from mailsrv.host.bell import Bell
from tests.system.instance import wait_until


@pytest.fixture
def bell() -> Iterator[Bell]:
    made = Bell()
    yield made
    made.stop()


def test_a_file_written_in_place_rings_and_is_told_as_closed(bell: Bell, tmp_path: Path) -> None:
    bell.watch([tmp_path])
    (tmp_path / "message.eml").write_bytes(b"octets")
    closed: frozenset[str] = frozenset()
    for _ in range(50):
        closed |= bell.wait(0.2).closed
        if closed:
            break
    assert closed == {"message.eml"}


def test_a_file_moved_in_rings(bell: Bell, tmp_path: Path) -> None:
    (tmp_path / "watched").mkdir()
    (tmp_path / "message.eml").write_bytes(b"octets")
    bell.watch([tmp_path / "watched"])
    (tmp_path / "message.eml").rename(tmp_path / "watched" / "message.eml")
    assert bell.wait(10).has_rung


def test_while_nobody_waits_for_a_ring_events_are_left_to_the_kernel(
    bell: Bell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bell.watch([tmp_path])
    (tmp_path / "first").touch()
    assert bell.wait(10).has_rung
    observer = bell._observer
    assert observer is not None
    reads = 0
    real = observer._inotify_fd._read_event_buffer

    def counted(size: int) -> bytes:
        nonlocal reads
        reads += 1
        return real(size)

    monkeypatch.setattr(observer._inotify_fd, "_read_event_buffer", counted)
    for number in range(100):
        (tmp_path / str(number)).touch()
        time.sleep(0.001)  # as one at work; a reader that was not held back would wake for each
    assert reads <= 1
    closed: set[str] = set()
    while len(closed) < 100:
        rings = bell.wait(10)
        assert rings.has_rung
        closed |= rings.closed


def test_files_that_are_moved_out_are_not_asked_for_because_watchdog_holds_what_follows_them(
    bell: Bell, tmp_path: Path
) -> None:
    bell.watch([tmp_path])
    observer = bell._observer
    assert observer is not None
    (emitter,) = observer.emitters
    assert isinstance(emitter, InotifyEmitter)
    assert not emitter.get_event_mask_from_filter() & InotifyConstants.IN_MOVED_FROM


def test_a_watched_folder_that_is_removed_is_noticed_and_can_be_watched_again(bell: Bell, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()
    bell.watch([folder])
    assert bell.is_alive()
    folder.rmdir()
    observer = bell._observer
    assert observer is not None
    for emitter in observer.emitters:
        emitter.join(10)
    assert not bell.is_alive()
    folder.mkdir()
    bell.watch([folder])
    (folder / "message.eml").write_bytes(b"octets")
    assert bell.wait(10).has_rung


def test_an_observer_that_has_died_is_noticed(bell: Bell, tmp_path: Path) -> None:
    bell.watch([tmp_path])
    observer = bell._observer
    assert observer is not None
    observer.stop()
    observer.join(10)
    assert not bell.is_alive()


def test_watching_what_is_not_there_fails_again_and_again_without_using_anything_up(bell: Bell, tmp_path: Path) -> None:
    def inotify_instances() -> int:
        return sum("inotify" in str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())

    before = inotify_instances()
    for _ in range(5):
        with pytest.raises(OSError, match="No such file"):
            bell.watch([tmp_path / "nowhere"])
    assert inotify_instances() == before


def _rings(bell: Bell, folder: Path) -> bool:
    """Whether a file is heard of."""
    bell.wait(0.1)
    (folder / "message.eml").write_bytes(b"octets")
    has_rung = bell.wait(10).has_rung
    (folder / "message.eml").unlink()
    return has_rung


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("part", ["observer", "emitter", "reader"])
def test_each_thread_that_ends_is_noticed_and_what_is_watched_again_rings(
    bell: Bell, tmp_path: Path, part: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    bell.watch([tmp_path, other])
    bell.break_down(part)
    (other / "message.eml").write_bytes(b"octets")  # what the reader fails with
    wait_until(lambda: not bell.is_alive(), "it is noticed")
    bell.watch([tmp_path, other])
    assert bell.is_alive()
    assert _rings(bell, tmp_path)
    assert _rings(bell, other)


def test_a_folder_with_another_in_its_place_is_not_heard_though_all_threads_live(bell: Bell, tmp_path: Path) -> None:
    tested, other = tmp_path / "tested", tmp_path / "other"
    for moved in (tested, other):
        for folder in (tested, other):
            folder.mkdir(exist_ok=True)
        bell.watch([tested, other])
        assert bell.test()
        wait_until(bell.test, "it is heard")
        moved.rename(tmp_path / f"old-{moved.name}")
        moved.mkdir()
        bell.test()
        assert bell.is_alive()
        assert not bell.test()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_watching_again_and_again_takes_no_more_of_the_machine(bell: Bell, tmp_path: Path) -> None:
    bell.watch([tmp_path])
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(10):
        bell.watch([tmp_path])
    bell.break_down("reader")
    (tmp_path / "message.eml").write_bytes(b"octets")
    wait_until(lambda: not bell.is_alive(), "it is noticed")
    bell.watch([tmp_path])
    wait_until(lambda: (len(os.listdir("/proc/self/fd")), threading.active_count()) == before, "all is given back")
