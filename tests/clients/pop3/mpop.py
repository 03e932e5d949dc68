"""mpop: into a Maildir."""

from pathlib import Path

from tests.clients.client import HOST, Done, Service, Way, run, said_by, write
from tests.clients.pop3.reader import Reader


class Mpop(Reader):
    """Knows by UIDL what it has read; pipelines. Without TLS it has to be told to give the password away."""

    name = "mpop"
    program = "mpop"
    package = "mpop"
    mechanisms = ("USER", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")

    def lacks(self, mechanism: str) -> str:
        if mechanism.lower() not in said_by("mpop", "--version").split():
            return f"this mpop is built without {mechanism}"
        return ""

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        for name in ("tmp", "new", "cur"):
            (folder / "mail" / name).mkdir(parents=True, exist_ok=True)
        settings = ["account default", f"host {HOST}", f"port {service.port}", f"user {service.user}"]
        settings += [f"password {service.password}", f"delivery maildir {folder}/mail", "received_header off"]
        settings += [f"keep {'on' if keep else 'off'}", f"uidls_file {folder}/seen"]
        if service.way is Way.PLAIN:
            settings += ["tls off"]
        else:
            settings += ["tls on", f"tls_starttls {'on' if service.way is Way.STARTTLS else 'off'}"]
            settings += [f"tls_trust_file {service.certificate}"]
        settings += [f"auth {service.mechanism.lower() or ('user' if service.way is Way.PLAIN else 'on')}"]
        configuration = write(folder / "mpoprc", "".join(f"{line}\n" for line in settings).encode())
        return run(["mpop", "--file", str(configuration)], folder)
