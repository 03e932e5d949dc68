"""node-pop3: from npm."""

from pathlib import Path

from tests.clients.client import HOST, Done, Service, Way, run
from tests.clients.pop3.reader import Reader, by_subject

_SCRIPT = Path(__file__).with_name("node_pop3.cjs")


class NodePop3(Reader):
    """Has neither STLS nor AUTH. Gives the octets of the wire: with doubled dots, and the last line end as it happens.

    (The last line end is left out where the end of the message comes in the same piece.)
    """

    name = "node-pop3"
    program = "node"
    package = "nodejs npm; then in tests/clients: npm ci --ignore-scripts"
    line_end = b"\r\n"
    ways = (Way.PLAIN, Way.TLS)

    def is_missing(self) -> bool:
        return super().is_missing() or not (_SCRIPT.parents[1] / "node_modules" / "node-pop3").is_dir()

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        (folder / "mail").mkdir(exist_ok=True)
        command = ["node", str(_SCRIPT), service.way, HOST, str(service.port), "keep" if keep else "delete"]
        login = {"LOGIN_USER": service.user, "LOGIN_PASSWORD": service.password}
        return run(command, folder, environment=login | {"NODE_EXTRA_CA_CERTS": str(service.certificate)})

    def stored(self, folder: Path) -> dict[str, bytes]:
        contents = [path.read_bytes().removesuffix(b"\r\n") for path in (folder / "mail").iterdir()]
        return by_subject(content.replace(b"\r\n.", b"\r\n") + b"\r\n" for content in contents)
