"""nodemailer: the message as it is, from a file."""

from pathlib import Path

from tests.clients.client import HOST, Client, Done, Service, run, write
from tests.clients.messages import Message

_SCRIPT = Path(__file__).with_name("nodemailer.cjs")


class Nodemailer(Client):
    """Asks for SMTPUTF8 by itself, where an address needs it."""

    name = "nodemailer"
    program = "node"
    package = "nodejs npm; then in tests/clients: npm ci --ignore-scripts"
    mechanisms = ("PLAIN", "LOGIN")

    def is_missing(self) -> bool:
        return super().is_missing() or not (_SCRIPT.parent / "node_modules" / "nodemailer").is_dir()

    def send(self, service: Service, message: Message, folder: Path) -> Done:
        data = write(folder / "message.eml", message.content)
        command = ["node", str(_SCRIPT), service.way, HOST, str(service.port)]
        command += [service.sender, message.recipient, str(data)]
        login = {"LOGIN_USER": service.user, "LOGIN_PASSWORD": service.password, "LOGIN_BY": service.mechanism}
        trust = {"NODE_EXTRA_CA_CERTS": str(service.certificate)}
        return run(command, folder, environment=login | trust if service.with_login else {})
