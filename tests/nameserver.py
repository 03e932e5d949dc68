"""A real nameserver for tests: Debian's dnsmasq, as a child on a free port, that knows what it is told and no more."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailsrv.host.resolver import Kind, Resolver, Trouble
from tests.clients.client import skip_missing
from tests.system.instance import free_port_base, wait_until

ZONE = "example"


@contextmanager
def nameserver(*records: str) -> Iterator[str]:
    """`ADDRESS:PORT` of a server that answers for all names in `example`; records are options of dnsmasq.

    Such as `mx-host=a.example,mx.a.example,10` and `host-record=mx.a.example,127.0.0.3`. What is not among them it
    knows not to be.
    """
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin")
    if program is None:
        skip_missing("dnsmasq", "dnsmasq-base")
    port = free_port("127.0.0.1")
    process = subprocess.Popen(
        [program, "--keep-in-foreground", "--conf-file=-", "--listen-address=127.0.0.1", f"--port={port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _configure(process, records)
        place = f"127.0.0.1:{port}"
        asked = Resolver([place], 0.5, 0.5)
        wait_until(lambda: not isinstance(asked.ask(f"here.{ZONE}", Kind.A), Trouble), "the nameserver answers")
        yield place
    finally:
        process.terminate()
        process.wait()


def _configure(process: subprocess.Popen[bytes], records: Sequence[str]) -> None:
    general = ("bind-interfaces", "no-resolv", "no-hosts", "user=", "pid-file=", "cache-size=0", f"local=/{ZONE}/")
    assert process.stdin is not None
    process.stdin.write("".join(f"{line}\n" for line in (*general, *records)).encode())
    process.stdin.close()


def free_port(address: str) -> int:
    """A port that is free for UDP and TCP, and none that the kernel gives to clients meanwhile."""
    while True:
        port = free_port_base()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as datagrams,
            socket.socket() as stream,
            contextlib.suppress(OSError),
        ):
            datagrams.bind((address, port))
            stream.bind((address, port))
            return port
