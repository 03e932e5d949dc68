"""Nobody in: who the programs are when root has started them, and whose the files are."""

import os
from pathlib import Path

import pytest

from mailsrv.host.privileges import Capability
from tests.system.instance import Instance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")

PROGRAMS = ("smtp", "delivery", "pop3", "relay", "health")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_stays_root_or_keeps_a_capability_that_it_does_not_need(instance: Instance, program: str) -> None:
    status = _status(instance.pid(program))
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert status["Groups"] in ("", status["Gid"].split()[0])
    expected = 1 << Capability.LEASE if program == "delivery" else 0
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff")} == {expected}
    assert int(status["CapAmb"], 16) == 0


def test_supervisord_writes_only_where_the_programs_may_not(instance: Instance) -> None:
    var = instance.root / "var"
    for folder in (var, var / "log", var / "supervisor"):
        assert folder.stat().st_uid == 0
        assert not folder.stat().st_mode & 0o022
    for file in (var / "accounts", var / "aliases"):
        assert file.stat().st_uid == 0
        assert file.stat().st_mode & 0o777 == 0o640


def test_what_the_programs_share_for_logins_is_theirs_alone(instance: Instance) -> None:
    secret = instance.root / "var" / "secret"
    assert secret.stat().st_uid != 0
    assert secret.stat().st_mode & 0o777 == 0o600


def test_mail_can_be_read_by_nobody_else(instance: Instance) -> None:
    instance.send(b"Subject: private\r\n\r\nbody\r\n")
    instance.wait_delivered(1)
    var = instance.root / "var"
    for folder in (var / "spool", var / "mail", var / "tls", var / "run"):
        assert folder.stat().st_uid != 0
        assert not folder.stat().st_mode & 0o077
    (message,) = instance.new_mail.iterdir()
    assert not message.stat().st_mode & 0o077
