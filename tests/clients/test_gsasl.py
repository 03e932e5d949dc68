"""Logins by GNU SASL's own client, the one at hand with channel binding (SCRAM-SHA-256-PLUS). It sends no mail.

It never sends an initial response with AUTH, but waits for the empty challenge.
"""

import shutil
from pathlib import Path

import pytest

from tests.clients.client import HOST, Done, run, skip_missing
from tests.system.instance import USER, Instance

LOGINS = {
    "PLAIN": ["--mechanism", "PLAIN"],
    "LOGIN": ["--mechanism", "LOGIN"],
    "SCRAM-SHA-256": ["--mechanism", "SCRAM-SHA-256", "--no-cb"],  # with a binding at hand it insists on PLUS
    "SCRAM-SHA-256-PLUS with tls-exporter": ["--mechanism", "SCRAM-SHA-256-PLUS"],  # of TLS 1.3
    "SCRAM-SHA-256-PLUS with tls-unique": ["--mechanism", "SCRAM-SHA-256-PLUS", "--priority", "NORMAL:-VERS-TLS1.3"],
}

each_login = pytest.mark.parametrize("login", LOGINS.values(), ids=list(LOGINS))


@pytest.fixture(autouse=True)
def _gsasl_is_here() -> None:
    if shutil.which("gsasl") is None:
        skip_missing("gsasl", "gsasl")


@each_login
def test_a_login_after_starttls(login: list[str], instance: Instance, tmp_path: Path) -> None:
    done = _log_in(instance, login, instance.password, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"\n235 " in done.stdout


@each_login
def test_a_wrong_password_is_refused(login: list[str], instance: Instance, tmp_path: Path) -> None:
    done = _log_in(instance, login, "wrong", tmp_path)
    assert done.returncode != 0
    assert b"\n535 " in done.stdout, done.stdout + done.stderr


def _log_in(instance: Instance, login: list[str], password: str, folder: Path) -> Done:
    command = ["gsasl", "--client", "--smtp", "--starttls", "--connect", f"{HOST}:{instance.submission_port}"]
    command += ["--x509-ca-file", str(instance.certificate), "--verbose", *login]
    return run([*command, "--authentication-id", USER, "--password", password], folder)
