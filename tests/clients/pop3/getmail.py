"""getmail6: hands each message to a program, here one that stores it in a file."""

from pathlib import Path

from tests.clients.client import HOST, Done, Service, Way, run, write
from tests.clients.pop3.reader import Reader, make_store

_ADDED = b"Return-Path: <unknown>\n"


class Getmail(Reader):
    """Knows by UIDL what it has read; has neither STLS nor AUTH. Adds a Return-Path where there is none."""

    name = "getmail6"
    program = "getmail"
    package = "getmail6"
    ways = (Way.PLAIN, Way.TLS)

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        store = make_store(folder)
        tls = service.way is Way.TLS
        lines = ["[retriever]", f"type = SimplePOP3{'SSL' if tls else ''}Retriever", f"server = {HOST}"]
        lines += [f"port = {service.port}", f"username = {service.user}", f"password = {service.password}"]
        lines += [f"ca_certs = {service.certificate}"] if tls else []
        lines += ["[destination]", "type = MDA_external", f"path = {store}", "allow_root_commands = true"]
        lines += ["[options]", "read_all = false", f"delete = {'false' if keep else 'true'}"]
        lines += ["delivered_to = false", "received = false"]
        write(folder / "getmailrc", "".join(f"{line}\n" for line in lines).encode())
        return run(["getmail", f"--getmaildir={folder}", "--rcfile=getmailrc"], folder)

    def stored(self, folder: Path) -> dict[str, bytes]:
        return {name: content.removeprefix(_ADDED) for name, content in super().stored(folder).items()}
