"""curl: each message of the list that it is given, by one connection."""

import re
from pathlib import Path

from tests.clients.client import HOST, Done, Service, Way, run, said_by
from tests.clients.pop3.reader import Reader


class Curl(Reader):
    """Knows nothing of what it has read before: here the caller compares the UIDLs."""

    name = "curl"
    program = "curl"
    package = "curl"
    line_end = b"\r\n"
    mechanisms = ("PLAIN", "SCRAM-SHA-256")

    def lacks(self, mechanism: str) -> str:
        if mechanism.startswith("SCRAM") and "gsasl" not in said_by("curl", "--version"):
            return "this curl is built without gsasl"
        return ""

    def read(self, service: Service, folder: Path, *, keep: bool) -> Done:
        (folder / "mail").mkdir(exist_ok=True)
        listed = _run(service, folder, "--request", "UIDL", "{url}/")
        uidls = dict(re.findall(rb"(?m)^(\d+) (\S+)\r$", listed.stdout))
        seen = folder / "seen"
        known = seen.read_bytes().split() if seen.exists() else []
        words: list[str] = []
        for number in [number.decode() for number, uidl in uidls.items() if uidl not in known]:
            words += ["{url}/" + number, "--output", str(folder / "mail" / uidls[number.encode()].decode())]
        if listed.returncode or not words:
            return listed
        seen.write_bytes(b"\n".join(uidls.values()))
        if not keep:
            for number in uidls:
                words += ["--next", "--request", "DELE", "--head", "{url}/" + number.decode()]
        return _run(service, folder, *words)


def _run(service: Service, folder: Path, *words: str) -> Done:
    scheme = "pop3s" if service.way is Way.TLS else "pop3"
    common = ["--silent", "--show-error", "--user", f"{service.user}:{service.password}"]
    if service.way is not Way.PLAIN:
        common += ["--ssl-reqd", "--cacert", str(service.certificate)]
    if service.mechanism:
        common += ["--login-options", f"AUTH={service.mechanism}"]
    command = ["curl", *common]
    for word in words:
        command += [word.format(url=f"{scheme}://{HOST}:{service.port}")]
        command += common if word == "--next" else []
    return run(command, folder)
