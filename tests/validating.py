"""A real validating resolver for tests: Debian's unbound, as a child on a free port, with signed zones of its own."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from mailsrv.host.resolver import Kind, Resolver, Trouble
from tests.clients.client import skip_missing
from tests.nameserver import free_port
from tests.system.instance import wait_until

_CONF = """\
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    module-config: "validator iterator"
    trust-anchor-file: "anchors"
    cache-max-ttl: 0
remote-control:
    control-enable: no
"""
_ZONE = 'auth-zone:\n    name: "{name}"\n    zonefile: "{name}zone"\n    for-downstream: no\n    for-upstream: yes\n'
_HEAD = "@ 300 IN SOA ns.{name} root.{name} 1 3600 600 86400 300\n@ 300 IN NS ns.{name}\nns 300 IN A 127.0.0.1\n"


@contextmanager
def validating(folder: Path, zones: Mapping[str, str], forgery: tuple[str, str] = ("", "")) -> Iterator[str]:
    """`ADDRESS:PORT` of a resolver that knows these zones (`a.example.`, with their records as lines) and no more.

    Zones whose name begins with `signed` are signed and vouched for, but where, once they are, `forgery` puts its
    second text in place of its first.
    """
    program = shutil.which("unbound", path="/usr/sbin:/usr/bin")
    if program is None:
        skip_missing("unbound", "unbound")
    port = free_port("127.0.0.1")
    conf, anchors = _CONF.format(port=port, folder=folder), ""
    for name, records in zones.items():
        zone = dns.zone.from_text(_HEAD.format(name=name) + records, origin=name, relativize=False)
        if name.startswith("signed"):
            anchors += _sign(zone)
        text = zone.to_text(relativize=False)
        (folder / f"{name}zone").write_text(text.replace(*forgery) if forgery[0] else text)
        conf += _ZONE.format(name=name)
    (folder / "anchors").write_text(anchors)
    (folder / "unbound.conf").write_text(conf)
    with (folder / "unbound.log").open("wb") as log:
        process = subprocess.Popen([program, "-d", "-c", folder / "unbound.conf"], stdout=log, stderr=log)
    try:
        place = f"127.0.0.1:{port}"
        asked = Resolver([place], 0.5, 0.5)
        wait_until(lambda: not isinstance(asked.ask(f"ns.{next(iter(zones))}", Kind.A), Trouble), "it answers")
        yield place
    finally:
        process.terminate()
        process.wait()


def _sign(zone: dns.zone.Zone) -> str:
    """Sign it; gives the line of its trust anchor."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = dns.dnssec.make_dnskey(key.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256, flags=257)
    with zone.writer() as transaction:
        dns.dnssec.sign_zone(zone, transaction, keys=[(key, public)], lifetime=86_400)
    return f"{zone.origin} 300 IN DNSKEY {public.to_text()}\n"
