"""curl: the message as it is."""

from pathlib import Path

from tests.clients.client import HOST, Client, Done, Service, Way, run, said_by, write
from tests.clients.messages import Message


class Curl(Client):
    """Asks for SMTPUTF8 by itself, where an address needs it."""

    name = "curl"
    program = "curl"
    package = "curl"
    mechanisms = ("PLAIN", "LOGIN", "SCRAM-SHA-256")

    def lacks(self, mechanism: str) -> str:
        if mechanism.startswith("SCRAM") and "gsasl" not in said_by("curl", "--version"):
            return "this curl is built without gsasl"
        return ""

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        data = write(folder / "message.eml", message.content)
        scheme = "smtps" if service.way is Way.TLS else "smtp"
        command = ["curl", "--silent", "--show-error", f"{scheme}://{HOST}:{service.port}/client.example"]
        command += ["--mail-from", service.sender, "--mail-rcpt", message.recipient, "--upload-file", str(data)]
        if service.with_login:
            command += ["--ssl-reqd", "--cacert", str(service.certificate)]
            command += ["--user", f"{service.user}:{service.password}"]
        if service.mechanism:
            command += ["--login-options", f"AUTH={service.mechanism}"]
        return run(command, folder)
