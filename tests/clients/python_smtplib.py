"""Python's smtplib: the message as it is."""

import smtplib
import ssl
import subprocess
from pathlib import Path

from tests.clients.client import HOST, PATIENCE, Client, Done, Service, Way
from tests.clients.messages import Message


class Smtplib(Client):
    """What it raises counts as a non-zero exit."""

    name = "smtplib"
    program = "python3"
    package = "python3"
    mechanisms = ("PLAIN", "LOGIN")

    def is_missing(self) -> bool:
        return False

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        del folder
        try:
            with self._open(service) as client:
                self._log_in(client, service)
                options = ["BODY=8BITMIME"] + (["SMTPUTF8"] if not message.recipient.isascii() else [])
                client.sendmail(service.sender, [message.recipient], message.content, options)
        except (OSError, smtplib.SMTPException) as error:
            return subprocess.CompletedProcess(["smtplib"], 1, b"", repr(error).encode())
        return subprocess.CompletedProcess(["smtplib"], 0, b"", b"")

    @staticmethod
    def _open(service: Service) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=service.certificate)
        if service.way is Way.TLS:
            return smtplib.SMTP_SSL(HOST, service.port, timeout=PATIENCE, context=context)
        client = smtplib.SMTP(HOST, service.port, timeout=PATIENCE)
        if service.way is Way.STARTTLS:
            client.starttls(context=context)
        return client

    @staticmethod
    def _log_in(client: smtplib.SMTP, service: Service) -> None:
        if not service.with_login:
            return
        client.ehlo_or_helo_if_needed()
        if service.mechanism:
            client.user, client.password = service.user, service.password
            client.auth(service.mechanism, getattr(client, f"auth_{service.mechanism.lower()}"))
        else:
            client.login(service.user, service.password)
