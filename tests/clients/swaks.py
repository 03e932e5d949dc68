"""swaks: the message as it is."""

from pathlib import Path
from typing import ClassVar

from tests.clients.client import HOST, Client, Done, Service, Way, has_perl_modules, run, write
from tests.clients.messages import Message


class Swaks(Client):
    """Checks who signed the certificate, not the name in it."""

    name = "swaks"
    program = "swaks"
    package = "swaks libnet-ssleay-perl"
    cannot: ClassVar = {"utf8": "swaks knows no SMTPUTF8"}
    mechanisms = ("PLAIN", "LOGIN")

    def is_missing(self) -> bool:
        return super().is_missing() or not has_perl_modules("Net::SSLeay")

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        data = write(folder / "message.eml", message.content + b".")  # it takes the dot for the end, and dots before it
        command = ["swaks", "--server", HOST, "--port", str(service.port), "--protocol", "ESMTP", "--silent"]
        command += ["--from", service.sender, "--to", message.recipient, "--data", f"@{data}"]
        if service.with_login:
            command += ["--tls" if service.way is Way.STARTTLS else "--tls-on-connect"]
            command += ["--tls-verify", "--tls-ca-path", str(service.certificate)]
            command += ["--auth", service.mechanism or "ANY"]
            command += ["--auth-user", service.user, "--auth-password", service.password]
        return run(command, folder)
