"""The drill itself: it makes its faults, tells what came of each, and leaves nothing behind."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.instance import Instance, wait_until

MAILSRV = [sys.executable, "-m", "mailsrv.cli.main"]
DRILL = [*MAILSRV, "drill"]
# Windows that are short; what a drill does not wait for is out of the way.
QUICK: dict[str, object] = {
    "health__interval": 0.25,
    "health__beat_limit": 3,
    "health__message_interval": 0,
}


def run_drill(*words: str, **options: Any) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """A drill, and what it has told."""
    done = subprocess.run([*DRILL, "--json", *words], check=False, capture_output=True, text=True, **options)
    return done, json.loads(done.stdout or "{}")


@pytest.fixture
def drill_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where drills make their instances: no other test's drill is there."""
    place.chmod(0o711)
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield place
    if made_by(place):  # a test has failed
        run_drill("--only", "zero-byte")


def made_by(folder: Path) -> list[Path]:
    return list(folder.glob("mailsrv-drill-*"))


def processes_in(folder: Path) -> list[int]:
    """The processes that were started for a place in there."""
    found = []
    for each in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in each.info["cmdline"] or ()) and each.pid != os.getpid():
            found.append(each.pid)
    return found


def mounts_in(folder: Path) -> list[str]:
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]


def test_a_drill_heals_everything_loses_and_doubles_nothing_and_refuses_no_connection() -> None:
    chosen = ["kill -9 of smtp", "kill -9 of health", "of relay", "poison", "zero-byte", "flood", "full disk", "clock"]
    words = [word for each in chosen for word in ("--only", each)]
    done, told = run_drill(*words, timeout=110)
    assert done.returncode == 0, told
    assert told["is_good"]
    assert told["audit"]
    assert told["mail"]["sent"] > 50
    for row in told["drills"]:
        assert (row["lost"], row["doubled"], row["refused"]) == (0, 0, 0), row
        assert row["is_skipped"] or row["healed_after"] is not None, row
    assert len(told["drills"]) == len(chosen) + 2  # killed, stopped, spinning


def test_a_drill_that_does_not_exist_is_misuse() -> None:
    done = subprocess.run([*DRILL, "--only", "nothing of that name"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected one of: kill -9 of smtp, " in done.stderr


@contextlib.contextmanager
def _begun(folder: Path, how: str) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A drill at the terminal that is under way (`up`: that starts its instance), and our end of the terminal."""
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", *DRILL, "--only", "SIGSTOP"]
    drill = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    what = "supervisord.pid" if how == "starting" else "delivery.beat"
    try:
        wait_until(lambda: list(folder.glob(f"*/disk/i/var/*/{what}")), "the drill is under way")
        yield drill, ours
    finally:
        drill.kill()
        drill.wait()
        with contextlib.suppress(OSError):
            os.close(ours)


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C again and again", "SIGTERM", "hang-up", "starting"])
def test_a_drill_that_is_ended_leaves_no_instance_no_disk_and_no_folder(drill_folder: Path, how: str) -> None:
    with _begun(drill_folder, how) as (drill, terminal):
        if how.startswith("Ctrl-C"):
            os.write(terminal, b"\x03")
        elif how == "hang-up":
            os.close(terminal)
        else:
            drill.send_signal(signal.SIGTERM)
        if how.endswith("again and again"):
            for _ in range(3):
                with contextlib.suppress(OSError):
                    os.write(terminal, b"\x03")
        wait_until(lambda: drill.poll() is not None, "the drill has ended", 60)
        assert made_by(drill_folder) == []
        assert mounts_in(drill_folder) == []
        assert processes_in(drill_folder) == []
        assert drill.returncode == 1


def test_what_a_killed_drill_has_left_is_removed_by_the_next_one_and_told(drill_folder: Path) -> None:
    with _begun(drill_folder, "under way") as (drill, _):
        (left,) = made_by(drill_folder)
        drill.kill()
        drill.wait()
        assert processes_in(left)
        done, told = run_drill("--only", "zero-byte")
        assert told["is_good"]
        assert f"removed {left}, which a drill that was killed had left" in done.stderr
        assert made_by(drill_folder) == []
        assert mounts_in(drill_folder) == []
        assert processes_in(drill_folder) == []


def test_a_drill_leaves_another_ones_instance_alone(drill_folder: Path) -> None:
    with _begun(drill_folder, "under way") as (drill, _):
        (theirs,) = made_by(drill_folder)
        done, told = run_drill("--only", "zero-byte")
        assert told["is_good"]
        assert "removed" not in done.stderr
        assert made_by(drill_folder) == [theirs]
        assert drill.poll() is None


def test_a_drill_here_asks_first_and_leaves_nothing_behind(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(**QUICK)
    instance.send(b"Subject: of before\r\n\r\nbody\r\n")
    instance.wait_delivered(1)
    before = (instance.root / "var" / "accounts").read_text()
    done = instance.mailsrv("drill", "--here", stdin=b"n\n")
    assert done.returncode == 1
    assert "makes programs of this instance ill" in done.stderr
    chosen = [
        "kill -9",
        "SIGSTOP of relay",
        "spin of smtp",
        "climb",
        "folders",
        "poison",
        "full disk",
        "zero",
        "killed",
    ]
    words = [word for each in chosen for word in ("--only", each)]
    command = [*MAILSRV, "--root", str(instance.root), "drill", "--here", "--json", *words]
    done = subprocess.run(command, input="y\n", check=False, capture_output=True, text=True, timeout=170)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    skipped = {row["name"]: row["why"] for row in told["drills"] if row["is_skipped"]}
    assert set(skipped) == {
        "CPU spin of smtp", "slow CPU climb", "spool folders deleted", "full disk", "poison file"
    }  # fmt: skip
    assert "hooks = true" in skipped["CPU spin of smtp"]
    assert told["mail"]["sent"] > 20
    assert (told["mail"]["lost"], told["mail"]["doubled"]) == (0, 0)
    assert (instance.root / "var" / "accounts").read_text() == before
    assert not (instance.root / "var" / "mail" / "localhost" / "mailsrv-drill").exists()
    folders = [instance.spool, *(instance.spool / name for name in ("new", "deferred", "remote", "hold", "bad"))]
    assert [path for folder in folders for path in folder.iterdir() if path.is_file()] == []
    assert instance.mailsrv("audit").returncode == 0
    assert len(instance.delivered()) == 1
    assert instance.status()["is_well"]


def test_a_drill_here_that_is_ended_leaves_everything_as_it_was(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(**QUICK, drill__hooks=True)
    before = (instance.root / "var" / "accounts").read_text()
    command = [*MAILSRV, "--root", str(instance.root), "drill", "--here", "--yes", "--only", "supervisord killed"]
    drill = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        pid = int((instance.root / "var" / "supervisor" / "supervisord.pid").read_text())
        wait_until(lambda: not psutil.pid_exists(pid), "supervisord is killed", 60)
        drill.send_signal(signal.SIGINT)  # in the middle: it is started again all the same
        assert drill.wait(90) == 1
    finally:
        drill.kill()
        drill.wait()
    assert (instance.root / "var" / "accounts").read_text() == before
    assert not (instance.root / "var" / "mail" / "localhost" / "mailsrv-drill").exists()
    instance.wait_until_running("smtp")


def test_a_drill_here_needs_an_instance_that_runs(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance()
    instance.down()
    done = instance.mailsrv("drill", "--here", "--yes")
    assert done.returncode == 1
    assert "supervisord is out of reach" in done.stderr
    assert "Traceback" not in done.stderr
