"""OpenDKIM verifies what we sign, with the records of `mailsrv dkim` in a real DNS server."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.model.record import strings_of
from tests.clients.client import skip_missing
from tests.work.instance import make
from tests.work.relaying import serving
from tests.work.signed import FILES, make_keys, signed_corpus

FIELD = re.compile(rb"^DKIM-Signature:[^\n]*\n(?: [^\n]*\n)*", re.M)
VERIFIER = "opendkim-testmsg"
# It asks the nameserver of the system, so it gets a system of its own: a network of loopback only, and a resolv.conf.
SCRIPT = """\
set -e
ip link set lo up
mount --bind resolv.conf /etc/resolv.conf
dnsmasq --keep-in-foreground --conf-file=dns.conf &
server=$!
trap 'kill $server' EXIT
until opendkim-testmsg -C <first; do sleep 0.1; done
for each in *.eml; do
    if opendkim-testmsg -C <"$each" >"$each.said" 2>&1; then echo good >"$each.said"; fi
done
"""


@pytest.mark.skipif(not FILES, reason="there is no corpus")
def test_every_real_message_is_verified_by_opendkim_with_each_key(tmp_path: Path) -> None:
    """What it says is bad syntax, it says of the unsigned message too: two of a field, or lines it cannot read."""
    for program in (VERIFIER, "dnsmasq", "unshare", "ip"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            skip_missing(program, "opendkim-tools, dnsmasq-base, iproute2")
    if os.geteuid() != 0:
        pytest.skip("a network of one's own is for root")
    config = replace(make(tmp_path), run_as="root")
    keys = make_keys(config)
    place = tmp_path / "verify"
    place.mkdir()
    names = []
    with serving() as server:
        for number, (name, message) in enumerate(signed_corpus(config, server)):
            names.append(name)
            for selector, octets in _alone(message).items():
                (place / f"{number:04}.{selector}.eml").write_bytes(octets)
    shutil.copy(place / "0000.s-rsa.eml", place / "first")
    changed = (place / "first").read_bytes().replace(b"alice@", b"mallory@")
    (place / "changed.s-rsa.eml").write_bytes(changed)
    records = [f"txt-record={each.owner},{','.join(strings_of(each.record))}\n" for each in keys]
    general = "no-resolv\nno-hosts\nuser=root\nlisten-address=127.0.0.1\npid-file=\n"
    (place / "dns.conf").write_text(general + "".join(records))
    (place / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    command = ["unshare", "--net", "--mount", "sh", "-c", SCRIPT]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(names):
        plain = (place / f"{number:04}.plain.eml.said").read_text()
        for selector in ("s-rsa", "s-ed25519"):
            said = (place / f"{number:04}.{selector}.eml.said").read_text()
            assert said in ("good\n", plain), (name, said)
            assert said == "good\n" or "Syntax error" in said, (name, said)
    assert "good" not in (place / "changed.s-rsa.eml.said").read_text()
    good = sum((path.read_text() == "good\n") for path in place.glob("*.s-*.said"))
    assert good > 2 * len(names) * 0.9


def _alone(message: bytes) -> dict[str, bytes]:
    """The message with each of our two signatures alone, by its selector, and without any."""
    first, second, rest = (*FIELD.findall(message)[:2], FIELD.sub(b"", message, count=2))
    found = {each.partition(b" s=")[2].partition(b";")[0].decode(): each + rest for each in (first, second)}
    return {**found, "plain": rest}
