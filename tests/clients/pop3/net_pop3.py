"""Perl's Net::POP3."""

from pathlib import Path

from tests.clients.client import HOST, Done, Service, has_perl_modules, run
from tests.clients.pop3.reader import Reader, by_subject

_SCRIPT = Path(__file__).with_name("net_pop3.pl")


class NetPop3(Reader):
    """Leaves AUTH to Authen::SASL, which has no SCRAM in Debian 12. Gives lines that end in CRLF where there is TLS."""

    name = "Net::POP3"
    program = "perl"
    package = "perl libio-socket-ssl-perl libauthen-sasl-perl"
    mechanisms = ("USER", "PLAIN")

    def is_missing(self) -> bool:
        return super().is_missing() or not has_perl_modules("Net::POP3", "IO::Socket::SSL", "Authen::SASL")

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        (folder / "mail").mkdir(exist_ok=True)
        command = ["perl", str(_SCRIPT), service.way, HOST, str(service.port), str(service.certificate)]
        by = "" if service.mechanism == "USER" else service.mechanism
        login = {"LOGIN_USER": service.user, "LOGIN_PASSWORD": service.password, "LOGIN_BY": by}
        return run([*command, "keep" if keep else "delete"], folder, environment=login)

    def stored(self, folder: Path) -> dict[str, bytes]:
        contents = (path.read_bytes() for path in (folder / "mail").iterdir())
        return by_subject(content.replace(b"\r\n", b"\n") for content in contents)
