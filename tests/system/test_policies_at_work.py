"""The relay as a program heeds DANE, by a real resolver that validates, and keeps what it learns of MTA-STS."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from tests.system.instance import Instance, free_port_base, wait_until
from tests.validating import validating
from tests.work.authority import certified
from tests.work.relaying import Server

DOMAIN = "signed.example"
MAIL = f"From: admin@localhost\nTo: dave@{DOMAIN}\nSubject: %s\n\nbody\n"


def test_a_certificate_that_the_dns_names_is_taken_another_makes_mail_wait_and_both_are_in_the_books(
    make_instance: Callable[..., Instance], tmp_path: Path
) -> None:
    shown = certified(None, "odd.example")
    port = free_port_base()
    data = hashlib.sha256(shown.spki).hexdigest()
    zone = f"@ 300 IN MX 10 mx\nmx 300 IN A 127.0.0.2\n_{port}._tcp.mx 300 IN TLSA 3 1 1 {data}\n"
    with validating(tmp_path, {f"{DOMAIN}.": zone}) as place:
        settings = {"dns__nameservers": [place], "relay__mx": True, "relay__port": port}
        instance = make_instance(policies__trusted_resolver=True, delivery__retry_after=[1], **settings)
        other = Server(address="127.0.0.2", at_port=port, tls=certified(None, "mx.signed.example").context(tmp_path))
        instance.drop("far.eml", (MAIL % "another").encode())
        wait_until(lambda: "DANE not met: its certificate is none" in trace(instance, "another"), "it waits")
        other.close()
        assert other.taken == []
        right = Server(address="127.0.0.2", at_port=port, tls=shown.context(tmp_path))
        wait_until(lambda: instance.mailsrv("queue", "retry", "--all").returncode == 0 and right.taken, "it is sent")
        wait_until(lambda: "DANE 3 1 1 met: 250" in trace(instance, "another"), "the books say so")
        right.close()


def trace(instance: Instance, word: str) -> str:
    return instance.mailsrv("trace", word).stdout
