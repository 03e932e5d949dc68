"""Perl's Net::SMTP: the message as it is."""

from pathlib import Path
from typing import ClassVar

from tests.clients.client import HOST, Client, Done, Service, has_perl_modules, run, write
from tests.clients.messages import Message

_SCRIPT = Path(__file__).with_name("net_smtp.pl")


class NetSmtp(Client):
    """Leaves the mechanism to Authen::SASL, which has no SCRAM in Debian 12."""

    name = "Net::SMTP"
    program = "perl"
    package = "perl libio-socket-ssl-perl libauthen-sasl-perl"
    cannot: ClassVar = {"utf8": "Net::SMTP knows no SMTPUTF8"}
    mechanisms = ("PLAIN", "LOGIN")

    def is_missing(self) -> bool:
        return super().is_missing() or not has_perl_modules("Net::SMTP", "IO::Socket::SSL", "Authen::SASL")

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        data = write(folder / "message.eml", message.content)
        command = ["perl", str(_SCRIPT), service.way, HOST, str(service.port), str(service.certificate)]
        command += [service.sender, message.recipient, str(data)]
        login = {"LOGIN_USER": service.user, "LOGIN_PASSWORD": service.password, "LOGIN_BY": service.mechanism}
        return run(command, folder, environment=login if service.with_login else {})
