"""All kinds of files dropped at once, and disks that are full."""

import os
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.instance import USER, Instance, wait_until

GOOD = b"From: alice@example.org\nTo: admin@localhost\nSubject: good\n\nbody\n"


def _bad(instance: Instance) -> dict[str, str]:
    return {path.name.removesuffix(".txt"): path.read_text() for path in (instance.spool / "bad").glob("*.txt")}


def test_odd_files_get_what_they_deserve_and_stop_nobody(instance: Instance, tmp_path: Path) -> None:
    instance.drop("empty.eml", b"")
    instance.drop("headerless.eml", b"just words\nand more\n")
    instance.drop("recipientless.eml", b"From: alice@example.org\nSubject: to nobody\n\nbody\n")
    instance.drop("bare-cr.eml", GOOD + b"a\rb\n")
    instance.drop("large.eml", GOOD + b"0123456789abcde\n" * (30 * 65536))
    (tmp_path / "target.eml").write_bytes(GOOD)
    (instance.spool / "link.eml").symlink_to(tmp_path / "target.eml")
    os.mkfifo(instance.spool / "pipe.eml")
    (instance.spool / ".hidden.eml").write_bytes(GOOD)
    (instance.spool / "later.part").write_bytes(GOOD)
    with (instance.spool / "half.eml").open("wb") as half:
        half.write(GOOD)
        half.flush()
        instance.drop("good.eml", GOOD)
        wait_until(lambda: len(_bad(instance)) == 5, "five files are set aside")
        messages = instance.wait_delivered(2)  # the large one and the good one
        assert (instance.spool / "half.eml").exists()
        half.write(b"the other half\n")
    instance.wait_delivered(3)
    assert sorted(len(message) > 30_000_000 for message in messages) == [False, True]
    assert any(message.endswith(b"the other half\n") for message in instance.delivered())
    reasons = _bad(instance)
    assert "the file is empty" in reasons["empty.eml"]
    assert "line 1, octet 0: expected a message that begins with its header" in reasons["headerless.eml"]
    assert "expected a recipient in To, Cc or Bcc" in reasons["recipientless.eml"]
    assert f"line 6, octet {len(GOOD) + 1}: a bare CR is refused" in reasons["bare-cr.eml"]
    assert "symbolic link" in reasons["link.eml"]
    assert (tmp_path / "target.eml").read_bytes() == GOOD
    assert (instance.spool / "bad" / "headerless.eml").read_bytes() == b"just words\nand more\n"
    assert {path.name for path in instance.spool.iterdir() if path.is_file()} >= {".hidden.eml", "later.part"}
    assert (instance.spool / "pipe.eml").exists()


def test_a_file_that_may_not_be_read_stays_and_shows_in_status(instance: Instance) -> None:
    hidden = instance.drop(".secret.eml", GOOD)
    hidden.chmod(0)
    path = hidden.rename(instance.spool / "secret.eml")
    wait_until(lambda: any("secret.eml" in problem for problem in instance.status()["problems"]), "status names it")
    assert path.exists()
    assert instance.mailsrv("status").returncode == 1


def test_an_address_of_a_second_account_and_an_alias_is_delivered_once_each(instance: Instance) -> None:
    assert instance.mailsrv("user", "add", "bob", "--password-stdin", stdin=b"secret\n").returncode == 0
    assert instance.mailsrv("alias", "add", "all", "bob", "admin").returncode == 0
    instance.drop("all.eml", b"From: alice@example.org\nTo: all@localhost, bob@localhost\n\nbody\n")
    instance.wait_delivered(1)
    bobs = instance.root / "var" / "mail" / "localhost" / "bob" / "new"
    wait_until(lambda: list(bobs.iterdir()), "bob has it")
    assert len(instance.delivered()) == len(list(bobs.iterdir())) == 1


@pytest.fixture
def small_spool(place: Path) -> Iterator[Instance]:
    """An instance whose spool has a small filesystem of its own."""
    instance = Instance.create(place / "i", {})
    options = f"size=3m,mode=700,uid={instance.spool.stat().st_uid}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(instance.spool)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("may not mount a small filesystem here")
    try:
        instance.up()
        yield instance
    finally:
        instance.down()
        subprocess.run(["umount", str(instance.spool)], check=True)


def test_a_full_disk_is_told_as_temporary_and_leaves_nothing_half_written(small_spool: Instance) -> None:
    instance = small_spool
    with smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=20) as client:
        client.ehlo()
        for _ in range(2):  # the connection lives on
            client.mail("alice@example.org")
            client.rcpt(USER)
            code, text = client.data(b"Subject: too much\r\n\r\n" + b"0123456789abcd\r\n" * 300_000)
            assert (code, text[:5]) == (452, b"4.3.1")
            assert list((instance.spool / "new").iterdir()) == []
            assert [each.name for each in (instance.spool / "tmp").iterdir()] == ["relay"]
        client.sendmail("alice@example.org", [USER], GOOD.replace(b"\n", b"\r\n"))
    (message,) = instance.wait_delivered(1)
    assert message.endswith(GOOD)
