"""The drop box: what is taken, what is left alone, what is waited for, and what is told to a person."""

import fcntl
import os
import pwd
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model.identity import new_entry_id
from mailsrv.settings import Delivery
from mailsrv.store.spool import Spool, State
from mailsrv.work.pickup import MOST_AT_ONCE, Pickup, Scan
from tests import killing
from tests.work.instance import config_of, deliver, drop, ledger_of, letters, make, names_in, unfinished

MAIL = b"From: alice@example.org\nTo: bob@example.org\nSubject: x\n\nHello.\n"
NONE: frozenset[str] = frozenset()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make(tmp_path)


def scan(config: Config, *closed: str) -> Scan:
    return Pickup(config, Spool(config.spool), ledger_of(config)).scan(frozenset(closed))


def entries(config: Config) -> list[str]:
    return [str(each) for each in Spool(config.spool).entries(State.NEW)]


def has_leases(folder: Path) -> bool:
    path = folder / "leased"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        return False
    finally:
        os.close(fd)
        path.unlink()
    return True


def scans(config: Config, seconds: float = 10.0) -> Iterator[Scan]:
    """Scans by one Pickup, again and again, until the test has seen enough."""
    pickup = Pickup(config, Spool(config.spool), ledger_of(config))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield pickup.scan(NONE)
    pytest.fail("nothing came of it in time")


# --- what is taken ---------------------------------------------------------------------------------


def test_a_file_moved_in_is_taken_at_once(config: Config) -> None:
    drop(config, "a.eml", MAIL)
    assert scan(config, "a.eml") == Scan(1, 0, (), is_cut_short=False)
    assert len(entries(config)) == 1
    assert names_in(config.spool / "tmp") == []
    assert not (config.spool / "a.eml").exists()


def test_a_file_that_nobody_told_of_is_taken_by_the_scan(config: Config) -> None:
    drop(config, "a.eml", MAIL)
    for found in scans(config):
        if found.taken:
            break
    assert len(entries(config)) == 1


@pytest.mark.parametrize(
    "name",
    [b"a", b"two words.eml", b"caf\xc3\xa9.eml", b"\xff\xfe", b"new\nline", b"-rf", b"%s {}", b"a" * 255, b"a.txt"],
)
def test_the_name_of_a_dropped_file_does_not_matter(config: Config, name: bytes) -> None:
    (config.var / "being-made").write_bytes(MAIL)
    Path(config.var / "being-made").rename(os.fsdecode(os.fsencode(config.spool) + b"/" + name))
    deliver(config)
    (letter,) = letters(config, "bob")
    assert letter.endswith(b"Subject: x\n\nHello.\n")
    assert unfinished(config) == []


@pytest.mark.parametrize("name", [".hidden", "a.tmp", "a.part", "a.swp", "a~"])
def test_unfinished_work_is_left_alone_until_it_is_renamed(config: Config, name: str) -> None:
    path = drop(config, name, MAIL)
    deliver(config)
    assert letters(config, "bob") == []
    path.rename(config.spool / "done")
    deliver(config)
    assert len(letters(config, "bob")) == 1


def test_a_folder_in_the_drop_box_is_left_alone(config: Config) -> None:
    (config.spool / "folder").mkdir()
    (config.spool / "folder" / "a.eml").write_bytes(MAIL)
    assert scan(config) == Scan(0, 0, (), is_cut_short=False)


def test_a_crowd_is_taken_in_turns_in_the_order_of_names(config: Config) -> None:
    for number in range(MOST_AT_ONCE + 5):
        drop(config, f"{number:03}", MAIL.replace(b"Hello", b"Number %d" % number))
    pickup = Pickup(config, Spool(config.spool), ledger_of(config))
    names = frozenset(f"{number:03}" for number in range(MOST_AT_ONCE + 5))
    assert pickup.scan(names) == Scan(MOST_AT_ONCE, 0, (), is_cut_short=True)
    assert pickup.scan(names) == Scan(5, 0, (), is_cut_short=False)
    bodies = [(config.spool / "new" / entry_id).read_bytes() for entry_id in entries(config)]
    assert [b"Number %d." % number in body for number, body in enumerate(bodies)] == [True] * (MOST_AT_ONCE + 5)


# --- what is waited for ----------------------------------------------------------------------------


def test_a_file_that_is_being_written_is_taken_when_it_is_closed(config: Config) -> None:
    if not has_leases(config.spool):
        pytest.skip("no leases here")
    with (config.spool / "a.eml").open("wb") as file:
        file.write(MAIL[:30])
        file.flush()
        assert scan(config) == Scan(0, 1, (), is_cut_short=False)
        file.write(MAIL[30:])
        file.flush()
        os.utime(file.fileno(), (0, 0))  # not even its age says more than the lease
        assert scan(config, "a.eml") == Scan(0, 1, (), is_cut_short=False)
    assert scan(config).taken == 1
    assert (config.spool / "new" / entries(config)[0]).read_bytes().endswith(b"Hello.\r\n")


def test_a_file_that_is_being_written_by_another_process_is_waited_for(config: Config) -> None:
    if not has_leases(config.spool):
        pytest.skip("no leases here")
    path = config.spool / "a.eml"
    path.write_bytes(MAIL)
    writer = ["/bin/sh", "-c", 'exec 3>>"$0"; echo ready; read line', str(path)]
    with subprocess.Popen(writer, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.utime(path, (0, 0))
        assert scan(config, "a.eml") == Scan(0, 1, (), is_cut_short=False)
    assert scan(config).taken == 1


def test_an_empty_file_is_about_to_be_written_until_it_is_old(config: Config) -> None:
    (config.spool / "a.eml").touch()
    assert scan(config, "a.eml") == Scan(0, 1, (), is_cut_short=False)
    os.utime(config.spool / "a.eml", (0, 0))
    assert scan(config).taken == 1
    assert names_in(config.spool / "bad") == ["a.eml", "a.eml.txt"]
    assert "empty" in (config.spool / "bad" / "a.eml.txt").read_text()


def test_a_file_whose_time_lies_in_the_future_is_taken_by_our_own_clock(config: Config) -> None:
    (config.spool / "a.eml").touch()
    future = time.time() + 1e6
    os.utime(config.spool / "a.eml", (future, future))
    for found in scans(config):
        if found.taken:
            break
        assert found.waiting == 1


# --- what is told to a person ----------------------------------------------------------------------


def test_a_link_is_set_aside_and_its_target_is_not_read(config: Config) -> None:
    secret = config.root / "secret"
    secret.write_bytes(MAIL)
    (config.spool / "a.eml").symlink_to(secret)
    deliver(config)
    assert letters(config, "bob") == []
    assert (config.spool / "bad" / "a.eml").is_symlink()
    assert "symbolic link" in (config.spool / "bad" / "a.eml.txt").read_text()
    assert secret.read_bytes() == MAIL
    assert unfinished(config) == []


def test_a_pipe_is_left_and_told_and_stops_nobody(config: Config) -> None:
    os.mkfifo(config.spool / "pipe")
    drop(config, "a.eml", MAIL)
    assert scan(config, "a.eml") == Scan(1, 0, ("pipe: is not a regular file",), is_cut_short=False)
    assert (config.spool / "pipe").exists()


def test_a_file_that_may_not_be_read_stays_and_is_told_and_is_taken_once_it_may(config: Config) -> None:
    (drop(config, "secret.eml", MAIL)).chmod(0)
    drop(config, "a.eml", MAIL)
    text = as_ordinary_user(config, lambda: repr(scan(config_of(Path()), "a.eml", "secret.eml")))
    expected = Scan(1, 0, ("secret.eml: may not be read by the user that delivery runs as",), is_cut_short=False)
    assert text == repr(expected)
    (config.spool / "secret.eml").chmod(0o600)
    assert scan(config, "secret.eml").taken == 1
    assert len(entries(config)) == 2


def as_ordinary_user(config: Config, work: Callable[[], str]) -> str:
    """Do `work` from inside the instance, as a user whom permissions bind."""

    def answer() -> str:
        os.chdir(config.root)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (Path(), *Path().rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
        return work()

    deliver(config_of(config.root / "warm"))  # afterwards Python may not be allowed to import
    return killing.answer_of(answer)


def test_what_cannot_be_understood_is_set_aside_and_the_rest_flows(config: Config) -> None:
    drop(config, "a.eml", b"nonsense\n")
    drop(config, "b.eml", MAIL)
    drop(config, "c.eml", b"X-Sender: <\nX-Receiver: <bob@example.org>\n\n")
    deliver(config)
    assert len(letters(config, "bob")) == 1
    assert names_in(config.spool / "bad") == ["a.eml", "a.eml.txt", "c.eml", "c.eml.txt"]
    assert (config.spool / "bad" / "a.eml").read_bytes() == b"nonsense\n"
    assert "line 1, octet 0: X-Sender" in (config.spool / "bad" / "c.eml.txt").read_text()
    assert unfinished(config) == []


def test_a_bare_cr_is_told_with_line_and_octet(config: Config) -> None:
    drop(config, "a.eml", MAIL.replace(b"Hello.", b"Hel\rlo."))
    deliver(config)
    reason = (config.spool / "bad" / "a.eml.txt").read_text()
    assert reason.startswith(f"line 5, octet {MAIL.index(b'Hello.') + 3}: a bare CR")


def test_the_same_bad_name_twice_keeps_both(config: Config) -> None:
    for octets in (b"one\n", b"two\n"):
        drop(config, "a.eml", octets)
        deliver(config)
    bad = config.spool / "bad"
    assert {path.read_bytes() for path in bad.glob("*.eml")} == {b"one\n", b"two\n"}
    assert all(path.with_name(f"{path.name}.txt").exists() for path in bad.glob("*.eml"))


# --- a fault of ours -------------------------------------------------------------------------------


def test_a_file_that_cannot_be_taken_in_now_is_taken_in_later(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsrv.work.pickup.FAULT_PAUSE", 0.0)
    pickup = Pickup(config, Spool(config.spool), ledger_of(config))
    drop(config, "a.eml", MAIL)
    (config.spool / "new").rmdir()
    assert pickup.scan(frozenset({"a.eml"})).taken == 1  # claimed, but not published
    (config.spool / "new").mkdir()
    pickup.scan(NONE)
    assert len(entries(config)) == 1
    assert names_in(config.spool / "tmp") == []


def test_files_that_cannot_be_claimed_are_let_be_for_a_while_and_show(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickup = Pickup(config, Spool(config.spool), ledger_of(config))
    names = [f"{number:03}.eml" for number in range(MOST_AT_ONCE + 1)]
    for name in names:
        drop(config, name, MAIL)
    (config.spool / "tmp").rmdir()
    scan = pickup.scan(frozenset(names))
    assert (scan.taken, scan.is_cut_short) == (0, False)
    scan = pickup.scan(NONE)
    assert scan.stuck[0] == "000.eml: cannot be claimed: No such file or directory"
    assert scan.taken == 0
    (config.spool / "tmp").mkdir()
    monkeypatch.setattr("mailsrv.work.pickup.FAULT_PAUSE", 0.0)
    pickup._refusals.clear()
    while pickup.scan(frozenset(names)).taken:
        pass
    assert len(entries(config)) == len(names)


def test_a_file_that_cannot_be_set_aside_now_is_set_aside_later(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsrv.work.pickup.FAULT_PAUSE", 0.0)
    pickup = Pickup(config, Spool(config.spool), ledger_of(config))
    drop(config, "a.eml", b"nonsense\n")
    (config.spool / "bad").rmdir()
    pickup.scan(frozenset({"a.eml"}))
    (config.spool / "bad").mkdir()
    pickup.scan(NONE)
    assert names_in(config.spool / "bad") == ["a.eml", "a.eml.txt"]
    assert names_in(config.spool / "tmp") == []


def test_a_claim_whose_entry_is_published_is_removed_and_the_entry_left_as_it_is(config: Config) -> None:
    spool = Spool(config.spool)
    claim = spool.claim(drop(config, "a.eml", MAIL), new_entry_id(datetime.now(UTC)))
    spool.path(State.NEW, claim.entry_id).write_bytes(b"published before the crash")
    pickup = Pickup(config, spool, ledger_of(config))
    assert pickup.recover() == 1
    pickup.scan(NONE)
    assert spool.path(State.NEW, claim.entry_id).read_bytes() == b"published before the crash"
    assert names_in(spool.tmp) == []


def test_a_claim_that_cannot_be_removed_now_is_not_taken_in_again_and_keeps_no_other_one(config: Config) -> None:
    spool = Spool(config.spool)
    now = datetime.now(UTC)
    claims = [spool.claim(drop(config, name, MAIL), new_entry_id(now)) for name in ("a", "b", "c")]
    spool.path(State.NEW, claims[2].entry_id).write_bytes(b"published before the crash")

    def work() -> str:
        config = config_of(Path())
        tmp = Spool(config.spool).tmp
        stuck = [Path(*claim.path.relative_to(config_root).parts[:-1]) for claim in (claims[0], claims[2])]
        for folder in stuck:
            folder.chmod(0o500)
        pickup = Pickup(config, Spool(config.spool), ledger_of(config))
        pickup.recover()
        counts = [(pickup.scan(NONE).taken, len(entries(config)), len(names_in(tmp))) for _ in range(2)]
        for folder in stuck:
            folder.chmod(0o700)
        counts.append((pickup.scan(NONE).taken, len(entries(config)), len(names_in(tmp))))
        return repr(counts)

    config_root = config.root
    assert as_ordinary_user(config, work) == repr([(0, 3, 2), (0, 3, 2), (0, 3, 0)])


def test_settling_takes_as_long_as_configured(tmp_path: Path) -> None:
    make(tmp_path)
    config = config_of(tmp_path, Delivery(settle_seconds=3600))
    (config.spool / "a.eml").touch()
    assert scan(config, "a.eml").waiting == 1
