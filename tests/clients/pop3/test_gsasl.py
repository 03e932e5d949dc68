"""AUTH by GNU SASL's own client, the one at hand with channel binding (SCRAM-SHA-256-PLUS).

It knows IMAP and SMTP only. So it speaks SASL with its caller, who carries that in a POP3 session over TLS of other
hands: openssl's client, which tells what tls-exporter binds to (TLS 1.3), or Python's, with tls-unique (TLS 1.2).
"""

import base64
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO

import pytest

from tests.clients.client import HOST, PATIENCE, skip_missing
from tests.system.instance import USER, Instance

EXPORTER, UNIQUE = "tls-exporter", "tls-unique"  # in the order in which gsasl asks for them


@pytest.fixture(autouse=True)
def _programs_are_here() -> None:
    for program in ("gsasl", "openssl"):
        if shutil.which(program) is None:
            skip_missing(program, program)


@dataclass(frozen=True)
class Line:
    """Where lines are said and heard."""

    source: IO[bytes]
    sink: IO[bytes]

    def say(self, line: bytes) -> None:
        self.sink.write(line + b"\r\n")
        self.sink.flush()

    def hear(self) -> bytes:
        return self.source.readline().rstrip(b"\r\n")


@dataclass(frozen=True)
class Session:
    """A POP3 connection over TLS that was greeted, and what a login can be bound to there."""

    line: Line
    kind: str
    binding: bytes

    def ask(self, line: bytes) -> bytes:
        """The answer's first line."""
        self.line.say(line)
        return self.line.hear()


@contextmanager
def running(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], Line]]:
    """A program, and a line to it; it is ended afterwards."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, Line(process.stdout, process.stdin)
        finally:
            process.kill()


@contextmanager
def over_openssl(instance: Instance) -> Iterator[Session]:
    """TLS 1.3 by openssl's client, bound by tls-exporter (RFC 9266 section 2)."""
    command = ["openssl", "s_client", "-connect", f"{HOST}:{instance.pop3s_port}", "-tls1_3", "-ign_eof"]
    command += ["-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"]
    command += ["-CAfile", str(instance.certificate), "-verify_return_error", "-verify_hostname", HOST]
    with running(command) as (process, line):
        told = b""
        while not (heard := line.hear()).startswith(b"+OK"):
            told += heard + b"\n"
            assert process.poll() is None, told
        material = re.search(rb"Keying material: (\S+)", told)
        assert material, told
        yield Session(line, EXPORTER, bytes.fromhex(material.group(1).decode()))


@contextmanager
def over_python(instance: Instance) -> Iterator[Session]:
    """TLS 1.2 by Python, bound by tls-unique."""
    context = ssl.create_default_context(cafile=instance.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((HOST, instance.pop3s_port), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as encrypted,
        encrypted.makefile("rb") as source,
        encrypted.makefile("wb") as sink,
    ):
        assert source.readline().startswith(b"+OK")
        yield Session(Line(source, sink), UNIQUE, encrypted.get_channel_binding(UNIQUE) or b"")


Over = Callable[[Instance], AbstractContextManager[Session]]

each_login = pytest.mark.parametrize(
    "mechanism, over",
    [
        pytest.param("PLAIN", over_openssl, id="PLAIN"),
        pytest.param("SCRAM-SHA-256", over_openssl, id="SCRAM-SHA-256"),
        pytest.param("SCRAM-SHA-256-PLUS", over_openssl, id=f"SCRAM-SHA-256-PLUS with {EXPORTER}"),
        pytest.param("SCRAM-SHA-256-PLUS", over_python, id=f"SCRAM-SHA-256-PLUS with {UNIQUE}"),
    ],
)


@each_login
def test_a_login(mechanism: str, over: Over, running_instance: Instance) -> None:
    with over(running_instance) as session:
        answer, is_trusted = log_in(session, mechanism, running_instance.password, session.binding)
        assert answer.startswith(b"+OK"), answer
        assert session.ask(b"STAT").startswith(b"+OK")
    assert is_trusted


@each_login
def test_a_wrong_password_is_refused(mechanism: str, over: Over, running_instance: Instance) -> None:
    with over(running_instance) as session:
        answer, _ = log_in(session, mechanism, "wrong", session.binding)
        assert answer.startswith(b"-ERR [AUTH]"), answer
        assert session.ask(b"STAT").startswith(b"-ERR")


@pytest.mark.parametrize("over", [over_openssl, over_python])
def test_a_login_that_is_bound_to_another_connection_is_refused(over: Over, running_instance: Instance) -> None:
    with over(running_instance) as session, over(running_instance) as other:
        answer, _ = log_in(session, "SCRAM-SHA-256-PLUS", running_instance.password, other.binding)
        assert answer.startswith(b"-ERR [AUTH]"), answer


def log_in(session: Session, mechanism: str, password: str, binding: bytes) -> tuple[bytes, bool]:
    """The server's last answer, and whether gsasl is content with it, with SCRAM by the server's signature."""
    command = ["stdbuf", "--output=L", "gsasl", "--client", "--mechanism", mechanism]
    with running([*command, "--authentication-id", USER, "--password", password]) as (process, gsasl):
        assert gsasl.hear() == mechanism.encode()
        if mechanism != "PLAIN":
            for kind in (EXPORTER, UNIQUE):  # it asks for the second one only where it has not got the first
                is_bound = mechanism.endswith("-PLUS") and kind == session.kind
                gsasl.say(base64.b64encode(binding) if is_bound else b"")
                if is_bound:
                    break
        answer = session.ask(b"AUTH " + mechanism.encode())
        while answer.startswith(b"+ "):
            if challenge := answer.removeprefix(b"+ "):
                gsasl.say(challenge)
            answer = session.ask(gsasl.hear().rpartition(b" ")[2])  # what it asked before ends no line
        if answer.startswith(b"+OK"):
            gsasl.say(b"")
        _, told = process.communicate(timeout=PATIENCE)
    return answer, b"server trusted" in told
