"""mutt: composes the message from a text and attachments."""

from pathlib import Path
from urllib.parse import quote

from tests.clients.client import HOST, Client, Done, Service, Way, run, said_by, write
from tests.clients.messages import Message


class Mutt(Client):
    """Asks for SMTPUTF8 by itself, where an address needs it."""

    name = "mutt"
    program = "mutt"
    package = "mutt"
    composes = True
    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256")

    def lacks(self, mechanism: str) -> str:
        if mechanism.startswith("SCRAM") and "+USE_GSASL" not in said_by("mutt", "-v"):
            return "this mutt is built without gsasl"
        return ""

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        muttrc = write(folder / "muttrc", "".join(f"set {line}\n" for line in _settings(service, message)).encode())
        command = ["mutt", "-n", "-F", str(muttrc), "-s", message.name]
        if not message.is_text:
            command += ["-a", str(write(folder / "attached.bin", message.payload))]
        text = message.payload.replace(b"\r\n", b"\n") if message.is_text else b""
        return run([*command, "--", message.recipient], folder, text)


def _settings(service: Service, message: Message) -> list[str]:
    scheme = "smtps" if service.way is Way.TLS else "smtp"
    login = f"{quote(service.user, safe='')}@" if service.with_login else ""
    settings = [f'smtp_url="{scheme}://{login}{HOST}:{service.port}/"', f'from="{service.sender}"', "use_from=yes"]
    settings += ["use_envelope_from=yes", f'envelope_from_address="{service.sender}"', "hostname=client.example"]
    settings += [f"charset={message.charset}", f"send_charset={message.charset}", "allow_8bit=yes", "use_8bitmime=yes"]
    settings += ["copy=no", "sleep_time=0", f'certificate_file="{service.certificate}"']
    settings += [f"ssl_starttls={'yes' if service.way is Way.STARTTLS else 'no'}"]
    settings += [f"ssl_force_tls={'yes' if service.with_login else 'no'}"]
    if service.with_login:
        settings += [f'smtp_pass="{service.password}"']
        # Left to itself it takes SCRAM-SHA-256-PLUS where that is offered, has no channel binding, and gives up.
        settings += [f'smtp_authenticators="{service.mechanism.lower() or "scram-sha-256:plain"}"']
    return settings
