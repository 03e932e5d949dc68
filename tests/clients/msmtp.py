"""msmtp: the message as it is, from a file with the line ends of Unix."""

from pathlib import Path
from typing import ClassVar

from tests.clients.client import HOST, Client, Done, Service, Way, run, said_by, write
from tests.clients.messages import Message


class Msmtp(Client):
    """Sends octets above 127 without BODY=8BITMIME."""

    name = "msmtp"
    program = "msmtp"
    package = "msmtp"
    cannot: ClassVar = {"utf8": "msmtp knows no SMTPUTF8"}
    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")

    def lacks(self, mechanism: str) -> str:
        if mechanism.lower() not in said_by("msmtp", "--version").split():
            return f"this msmtp is built without {mechanism}"
        return ""

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        settings = [f"host {HOST}", f"port {service.port}", f"from {service.sender}", "domain client.example"]
        if service.with_login:
            settings += ["tls on", f"tls_starttls {'on' if service.way is Way.STARTTLS else 'off'}"]
            settings += [f"tls_trust_file {service.certificate}", f"auth {service.mechanism.lower() or 'on'}"]
            settings += [f"user {service.user}", f"password {service.password}"]
        lines = "\n".join(["account default", *settings, ""])
        configuration = write(folder / "msmtprc", lines.encode())
        return run(["msmtp", "--file", str(configuration), "--", message.recipient], folder, message.lines)
