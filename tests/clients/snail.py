"""s-nail: composes the message from a text and attachments."""

from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from tests.clients.client import HOST, Client, Done, Service, Way, run, write
from tests.clients.messages import Message


class Snail(Client):
    """Sends octets above 127 without BODY=8BITMIME."""

    name = "s-nail"
    program = "s-nail"
    package = "s-nail"
    composes = True
    cannot: ClassVar = {"utf8": "s-nail knows no SMTPUTF8"}
    mechanisms = ("PLAIN", "LOGIN")

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        scheme = "smtps" if service.way is Way.TLS else "smtp"
        login = f"{quote(service.user, safe='')}:{quote(service.password, safe='')}@" if service.with_login else ""
        settings = ["v15-compat", f"mta={scheme}://{login}{HOST}:{service.port}", f"from={service.sender}"]
        settings += ["mime-encoding=8b", f"ttycharset={message.charset}", f"sendcharsets={message.charset}"]
        settings += ["hostname=client.example", "sendwait", "nosave"]
        if service.with_login:
            settings += ["tls-verify=strict", f"tls-ca-file={service.certificate}", "tls-ca-no-defaults"]
        if service.mechanism or not service.with_login:
            settings += [f"smtp-auth={service.mechanism.lower() or 'none'}"]
        if service.way is Way.STARTTLS:
            settings += ["smtp-use-starttls"]
        command = ["s-nail", "-:/", *(word for setting in settings for word in ("-S", setting))]
        command += ["-s", message.name]
        if not message.is_text:
            command += ["-a", str(write(folder / "attached.bin", message.payload))]
        text = message.payload.replace(b"\r\n", b"\n") if message.is_text else b""
        return run([*command, message.recipient], folder, text)
