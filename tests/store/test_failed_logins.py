"""Failed logins: counted by all programs together, bounded, and never in the way of a login."""

import errno
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsrv.store import failed_logins
from mailsrv.store.failed_logins import Ban, FailedLogins, Policy, lift, read_bans

POLICY = Policy(delay=1, ban_after=3, within=600, ban_seconds=900, never_banned=("127.0.0.0/8", "::1/128"))
NOW = 1_000_000.0
ADDRESS = "192.0.2.7"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logins"


@pytest.fixture
def logins(path: Path) -> Iterator[FailedLogins]:
    opened = FailedLogins(path, POLICY)
    yield opened
    opened.close()


def fail(logins: FailedLogins, times: int, address: str = ADDRESS, now: float = NOW) -> float:
    """Fail so often; gives the last delay."""
    return [logins.failed(address, now + number) for number in range(times)][-1]


def test_the_answer_waits_twice_as_long_after_each_failure_up_to_eight_times(logins: FailedLogins) -> None:
    assert [logins.failed(ADDRESS, NOW + number) for number in range(6)] == [1, 2, 4, 8, 8, 8]
    assert logins.failed("192.0.2.8", NOW) == 1


def test_what_is_long_ago_is_not_counted(logins: FailedLogins) -> None:
    fail(logins, 2)
    assert logins.failed(ADDRESS, NOW + 602) == 1
    assert logins.banned_until(ADDRESS, NOW + 602) is None


def test_an_address_is_banned_after_so_many_failures_and_for_so_long(logins: FailedLogins) -> None:
    fail(logins, 2)
    assert logins.banned_until(ADDRESS, NOW + 2) is None
    logins.failed(ADDRESS, NOW + 2)
    assert logins.banned_until(ADDRESS, NOW + 2) == NOW + 902
    assert logins.banned_until(ADDRESS, NOW + 901) == NOW + 902
    assert logins.banned_until(ADDRESS, NOW + 902) is None
    assert logins.banned_until("192.0.2.8", NOW + 2) is None


def test_nobody_is_banned_where_that_is_switched_off(path: Path) -> None:
    logins = FailedLogins(path, replace(POLICY, ban_after=0))
    assert fail(logins, 20) == 8
    assert logins.banned_until(ADDRESS, NOW + 20) is None
    logins.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "local", ""])
def test_some_are_slowed_down_and_never_banned(logins: FailedLogins, address: str) -> None:
    assert fail(logins, 20, address) == 8
    assert logins.banned_until(address, NOW + 20) is None


def test_a_network_is_no_longer_banned_when_it_never_should_be(logins: FailedLogins, path: Path) -> None:
    fail(logins, 3)
    logins = FailedLogins(path, replace(POLICY, never_banned=("192.0.2.0/24",)))
    assert logins.banned_until(ADDRESS, NOW + 3) is None
    logins.close()


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_an_ipv6_customer_is_one_address(logins: FailedLogins, one: str, other: str, are_one: bool) -> None:
    fail(logins, 3, one)
    assert (logins.banned_until(other, NOW + 3) is not None) == are_one


def test_bans_are_read_in_the_order_of_their_ends_and_lifted(logins: FailedLogins, path: Path) -> None:
    fail(logins, 4, "2001:db8::1", NOW + 5)
    fail(logins, 3)
    assert read_bans(path, NOW + 10) == [Ban(ADDRESS, NOW + 902, 3), Ban("2001:db8::/64", NOW + 908, 4)]
    assert [each.address for each in read_bans(path, NOW + 903)] == ["2001:db8::/64"]
    assert lift(path, ADDRESS, NOW + 10)
    assert not lift(path, ADDRESS, NOW + 10)
    assert logins.banned_until(ADDRESS, NOW + 10) is None
    assert logins.failed(ADDRESS, NOW + 10) == 1
    assert lift(path, "2001:db8::/64", NOW + 10)
    assert read_bans(path, NOW + 10) == []


def test_without_a_list_nobody_is_banned_and_none_is_made(path: Path) -> None:
    assert read_bans(path, NOW) == []
    assert not lift(path, ADDRESS, NOW + 10)
    assert not path.exists()
    with pytest.raises(ValueError, match="expected an IP address"):
        lift(path, "alice", NOW)


def test_a_program_that_starts_again_knows_the_bans(logins: FailedLogins, path: Path) -> None:
    fail(logins, 3)
    logins.close()
    again = FailedLogins(path, POLICY)
    assert again.banned_until(ADDRESS, NOW + 3) == NOW + 902
    again.close()


def test_nobody_else_may_read_the_list(logins: FailedLogins, path: Path) -> None:
    fail(logins, 1)
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}


# --- two programs ----------------------------------------------------------------------------------

COUNTING = """
import sys
from pathlib import Path
from mailsrv.store.failed_logins import FailedLogins, Policy
sys.stdin.readline()
logins = FailedLogins(Path(sys.argv[1]), Policy(1, 1000, 600, 900, ()))
for number in range(100):
    logins.failed("192.0.2.7", 1_000_000.0 + number / 1000)
"""


def test_programs_that_begin_at_once_count_together_and_lose_nothing(path: Path) -> None:
    command = [sys.executable, "-c", COUNTING, str(path)]
    programs = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    for each in programs:
        each.communicate(b"\n")
        assert each.returncode == 0
    lines = path.read_text().splitlines()
    assert len(lines) == 300
    assert all(line.startswith("failed 10000") and line.endswith(" 192.0.2.7") for line in lines)


def test_one_program_knows_at_once_whom_the_other_has_banned(logins: FailedLogins, path: Path) -> None:
    other = FailedLogins(path, POLICY)
    assert other.banned_until(ADDRESS, NOW) is None
    fail(logins, 2)
    other.failed(ADDRESS, NOW + 2)
    for each in (logins, other):
        assert each.banned_until(ADDRESS, NOW + 2) == NOW + 902
    other.close()


# --- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        b"nonsense",
        b"nonsense\n",
        b"\xff\0\r\n" * 5000,
        b"failed nan x\nfailed 1\n",
        b"banned 1000900 x\nbanned 1 x x\n",
        b"banned 1e300 192.0.2.8 3\nfailed -1 192.0.2.8\nbanned 1000900 [red] 3\n",
    ],
)
def test_damaged_lines_are_left_out_of_a_new_list(path: Path, octets: bytes) -> None:
    path.write_bytes(f"banned {NOW + 9:.3f} 192.0.2.9 3\n".encode() + octets)
    logins, other = FailedLogins(path, POLICY), FailedLogins(path, POLICY)
    assert logins.banned_until("192.0.2.9", NOW) == NOW + 9
    assert logins.failed(ADDRESS, NOW) == 1
    assert other.failed(ADDRESS, NOW) == 2
    assert path.read_text().splitlines() == [f"banned {NOW + 9:.3f} 192.0.2.9 3", *[f"failed {NOW:.3f} {ADDRESS}"] * 2]
    assert path.stat().st_mode & 0o777 == 0o600
    logins.close()
    other.close()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(octets=st.binary(), cut=st.integers(0, 40))
def test_whatever_becomes_of_the_file_logins_go_on(octets: bytes, cut: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logins"
        logins = FailedLogins(path, POLICY)
        fail(logins, 2)
        path.write_bytes(path.read_bytes()[:cut] + octets)
        assert fail(logins, 4, "192.0.2.99", NOW + 10) == 8
        assert logins.banned_until("192.0.2.99", NOW + 14) == NOW + 913
        logins.close()


def test_a_list_that_somebody_removes_is_made_anew_for_all_programs(logins: FailedLogins, path: Path) -> None:
    other = FailedLogins(path, POLICY)
    fail(logins, 3)
    assert other.banned_until(ADDRESS, NOW + 3) is not None
    path.unlink()
    assert logins.banned_until(ADDRESS, NOW + 3) is None
    fail(logins, 2, now=NOW + 4)
    other.failed(ADDRESS, NOW + 6)
    assert logins.banned_until(ADDRESS, NOW + 6) is not None
    other.close()


def test_a_program_that_cannot_use_the_list_counts_alone_and_tells_it_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    logins = FailedLogins(path, POLICY)
    assert fail(logins, 3) == 4
    assert logins.banned_until(ADDRESS, NOW + 3) == NOW + 902
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    path.rmdir()
    assert fail(logins, 3, now=NOW + 30) == 4
    assert [each.address for each in read_bans(path, NOW + 33)] == [ADDRESS]
    logins.close()


def test_a_full_disk_keeps_nobody_from_logging_in(
    logins: FailedLogins, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _octets: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    fail(logins, 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert fail(logins, 2, now=NOW + 1) == 4
    assert logins.banned_until(ADDRESS, NOW + 3) is not None
    assert len(path.read_text().splitlines()) == 1


def test_a_list_that_cannot_be_read_is_told_to_who_asks_for_it(path: Path) -> None:
    path.mkdir()
    for ask in (lambda: read_bans(path, NOW), lambda: lift(path, ADDRESS, NOW)):
        with pytest.raises(IsADirectoryError):
            ask()


def test_the_list_is_bounded_and_keeps_what_is_latest(logins: FailedLogins, path: Path) -> None:
    fail(logins, 1)
    lines = [
        f"failed {NOW + number / 1000:.3f} 10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        for number in range(40_000)
    ]
    path.write_text("\n".join(lines) + "\n")
    other = FailedLogins(path, POLICY)
    assert logins.failed("10.0.156.63", NOW + 41) == 2
    assert other.failed("10.0.156.63", NOW + 41) == 4
    assert path.stat().st_size < failed_logins.MAX_OCTETS / 2
    assert len(path.read_text().splitlines()) == failed_logins.MOST_KEPT + 3  # two that failed since, and a ban
    other.close()


def test_a_clock_that_is_set_back_does_not_keep_old_failures(logins: FailedLogins) -> None:
    fail(logins, 3)
    assert logins.failed(ADDRESS, NOW - 10_000) == 1
