"""What a program needs is imported before it gives root up: later it may not be allowed to read Python's files."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

from tests.nameserver import nameserver
from tests.system.instance import REPOSITORY
from tests.work.authority import authority, certified
from tests.work.test_policies import HOST, web

PROGRAM = """
import sys
from mailsrv.daemon import relayd, service

for module in service._NEEDED_LATER:
    __import__(module)
relayd.resolver.load()
before = set(sys.modules)

from mailsrv.host import https
from mailsrv.host.certificates import dane_match
from mailsrv.host.outgoing import addresses_of, client_context
from mailsrv.host.resolver import Association, Kind, Resolver
from mailsrv.host.signing import Algorithm, make_key, read_key

place, port, path = sys.argv[1:]
resolver = Resolver([place], 1, 2)
for name in ("a.example", "alias.example", "nobody.example"):
    for kind in Kind:
        resolver.ask(name, kind)
resolver.ask("1.0.0.127.in-addr.arpa", Kind.PTR)
https.PORT = int(port)
assert https.fetch("mta-sts.a.example", ["127.0.0.1"], "/", most=65536, seconds=20)
for algorithm in Algorithm:
    read_key(make_key(algorithm)).sign(b"octets")
octets = open(path, "rb").read()
assert dane_match([octets], [Association(2, 0, 0, octets), Association(3, 0, 0, octets)], ["a.example"])
addresses_of("localhost", 25)
client_context(is_trusting=False)
print(*sorted(set(sys.modules) - before))
"""


def test_the_relay_imports_nothing_when_it_asks_fetches_signs_or_verifies(tmp_path: Path) -> None:
    above = authority()
    (tmp_path / "trusted.pem").write_text(ssl.DER_cert_to_PEM_cert(above.der))
    shown = certified(above, HOST)
    (tmp_path / "shown.der").write_bytes(shown.der)
    records = ["mx-host=a.example,mx.a.example,10", "host-record=a.example,127.0.0.1,::1", "txt-record=a.example,text"]
    with nameserver(*records, "cname=alias.example,a.example") as place, web(shown.context(tmp_path)) as port:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, place, str(port), str(tmp_path / "shown.der")],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "trusted.pem")},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == []
