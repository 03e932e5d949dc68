"""Quotas: the file, and what lies in a mailbox, counted by names and remembered while nothing changes."""

import os
import time
from pathlib import Path

import pytest

from mailsrv.model.address import Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.store.quotas import (
    NO_RECORD,
    RECORD_NAME,
    Quota,
    Usage,
    counted,
    is_true,
    marks_of,
    parse_amount,
    parse_quotas,
    quota_in,
    read_record,
    write_record,
)

FILE = Path("quotas")
BOB = Mailbox("bob", "example.org")


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for folder in ("new", "cur", "tmp"):
        (tmp_path / folder).mkdir()
    return tmp_path


def settle(box: Path) -> None:
    """Have the folders of a mailbox look as if nothing had changed for a while."""
    for folder in ("new", "cur"):
        os.utime(box / folder, (time.time() - 10,) * 2)


def put(box: Path, name: str, octets: int = 10) -> Path:
    path = box / name
    path.write_bytes(b"x" * octets)
    return path


def test_an_account_has_its_own_quota_or_that_of_its_domain_or_that_of_all() -> None:
    quotas = parse_quotas(FILE, "# room\nBob@example.org octets=1G messages=100\n@Example.org messages=5\n")
    everybody = Quota(7, 7)
    assert quota_in(quotas, BOB, everybody) == Quota(1024**3, 100)
    assert quota_in(quotas, Mailbox("eve", "example.ORG"), everybody) == Quota(0, 5)
    assert quota_in(quotas, Mailbox("eve", "example.com"), everybody) == everybody


@pytest.mark.parametrize(
    "line",
    [
        "bob@example.org",
        "bob@example.org 1G",
        "bob@example.org octets=",
        "bob@example.org octets=-1",
        "octets=1",
        "bob@example.org octets=1 octets=2",
        "bob@example.org size=1",
        "a@b octets=1\na@B octets=2",
    ],
)
def test_a_mistake_in_quotas_is_told_with_its_line(line: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse_quotas(FILE, f"{line}\n")
    assert caught.value.line == line.count("\n") + 1


@pytest.mark.parametrize(("text", "octets"), [("0", 0), ("12", 12), ("2k", 2048), ("3M", 3 * 1024**2), ("1T", 1024**4)])
def test_amounts_have_units(text: str, octets: int) -> None:
    assert parse_amount(text) == octets


@pytest.mark.parametrize("text", ["", "x", "1.5G", "1 G", "1KB", "9" * 16])
def test_what_is_no_amount(text: str) -> None:
    assert parse_amount(text) is None


def test_a_mailbox_is_counted_by_the_names_of_its_files_or_by_their_sizes(box: Path) -> None:
    put(box, "new/1.a.host,S=1000,W=1010")
    put(box, "cur/2.b.host,S=200:2,S")
    put(box, "cur/3.c.host:2,RS", 30)
    put(box, "tmp/4.d.host,S=5")
    put(box, "new/.hidden")
    assert counted(box).usage == Usage(1230, 3)
    assert counted(box / "nowhere").usage == Usage(0, 0)


def test_a_record_is_true_until_anything_changes(box: Path) -> None:
    path = put(box, "new/1.a.host,S=1000")
    settle(box)
    write_record(box, counted(box))
    assert is_true(read_record(box), marks_of(box))
    path.rename(box / "cur" / "1.a.host,S=1000:2,S")
    assert not is_true(read_record(box), marks_of(box))
    settle(box)
    write_record(box, counted(box))
    (box / "cur" / "1.a.host,S=1000:2,S").unlink()
    assert not is_true(read_record(box), marks_of(box))


def test_what_was_counted_in_the_moment_of_a_change_is_counted_again(box: Path) -> None:
    put(box, "new/1.a.host,S=1000")
    assert not is_true(counted(box), marks_of(box))


def test_a_record_is_not_trusted_for_ever(box: Path) -> None:
    record = counted(box)
    os.utime(box / "new", ns=(0, 0))
    old = type(record)(0, 0, marks_of(box), record.counted - 4000)
    assert not is_true(old, marks_of(box))


@pytest.mark.parametrize(
    "octets", [b"", b"{", b"[]", b'{"octets": 1}', b'{"octets": "x", "messages": 1, "marks": [1, 2]}']
)
def test_a_record_that_cannot_be_understood_is_none(box: Path, octets: bytes) -> None:
    (box / RECORD_NAME).write_bytes(octets)
    assert read_record(box) == NO_RECORD


def test_the_larger_share_counts() -> None:
    assert Usage(50, 9).share_of(Quota(100, 10)) == 0.9
    assert Usage(95, 1).share_of(Quota(100, 10)) == 0.95
    assert Usage(95, 1).share_of(Quota(0, 0)) == 0.0
