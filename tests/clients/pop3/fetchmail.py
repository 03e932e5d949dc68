"""fetchmail: hands each message to a program, here one that stores it in a file."""

from pathlib import Path
from subprocess import CompletedProcess
from typing import ClassVar

from tests.clients.client import HOST, Done, Service, Way, run, write
from tests.clients.pop3.reader import Reader, make_store

_NO_NEW_MAIL = 1


class Fetchmail(Reader):
    """Knows by UIDL what it has read; `sslproto` asks for STLS, and `ssl` for TLS from the first octet."""

    name = "fetchmail"
    program = "fetchmail"
    package = "fetchmail"
    cannot: ClassVar = {"longest": "fetchmail breaks lines of more than 8,192 octets, and spoils some there"}

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        store = make_store(folder)
        tls = {
            Way.PLAIN: "sslproto ''",
            Way.STARTTLS: f"sslproto 'TLS1.2+' sslcertck sslcertfile '{service.certificate}'",
            Way.TLS: f"ssl sslproto 'TLS1.2+' sslcertck sslcertfile '{service.certificate}'",
        }
        lines = [
            "set invisible",
            "set no bouncemail",
            f"poll {HOST} service {service.port} protocol POP3 uidl no dns timeout 50",
            f"    username '{service.user}' password '{service.password}' {tls[service.way]}",
            f"    {'keep' if keep else 'nokeep'} no rewrite mda '{store}'",
        ]
        settings = write(folder / "fetchmailrc", "".join(f"{line}\n" for line in lines).encode())
        command = ["fetchmail", "--fetchmailrc", str(settings), "--idfile", str(folder / "seen"), "--nosyslog", "-v"]
        done = run([*command, "--pidfile", str(folder / "pid")], folder)
        code = 0 if done.returncode == _NO_NEW_MAIL else done.returncode
        return CompletedProcess(done.args, code, done.stdout, done.stderr)
