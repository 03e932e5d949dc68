"""Python's poplib."""

import poplib
import ssl
from pathlib import Path
from subprocess import CompletedProcess

from tests.clients.client import HOST, PATIENCE, Done, Service, Way
from tests.clients.pop3.reader import Reader

poplib._MAXLINE = 1_000_000  # type: ignore[attr-defined]  # it gives up at lines of more than 2048 octets


class Poplib(Reader):
    """What it raises counts as a non-zero exit. Has no AUTH; asks for UTF8 (RFC 6856)."""

    name = "poplib"
    program = "python3"
    package = "python3"
    line_end = b"\r\n"

    def is_missing(self) -> bool:
        return False

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        (folder / "mail").mkdir(exist_ok=True)
        try:
            self._read(service, folder, keep=keep)
        except (OSError, poplib.error_proto) as error:
            return CompletedProcess(["poplib"], 1, b"", repr(error).encode())
        return CompletedProcess(["poplib"], 0, b"", b"")

    def _read(self, service: Service, folder: Path, *, keep: bool) -> None:
        seen = folder / "seen"
        known = seen.read_bytes().split() if seen.exists() else []
        client = _open(service)
        try:
            client.utf8()
            client.user(service.user)
            client.pass_(service.password)
            uidls = dict(line.split() for line in client.uidl()[1])
            for number, uidl in uidls.items():
                if uidl not in known:
                    lines = client.retr(int(number))[1]
                    (folder / "mail" / uidl.decode()).write_bytes(b"".join(line + b"\r\n" for line in lines))
                if not keep:
                    client.dele(int(number))
            client.quit()
        finally:
            client.close()
        seen.write_bytes(b"\n".join(uidls.values()))


def _open(service: Service) -> poplib.POP3:
    context = ssl.create_default_context(cafile=service.certificate)
    if service.way is Way.TLS:
        return poplib.POP3_SSL(HOST, service.port, timeout=PATIENCE, context=context)
    client = poplib.POP3(HOST, service.port, timeout=PATIENCE)
    if service.way is Way.STARTTLS:
        client.stls(context=context)
    return client
