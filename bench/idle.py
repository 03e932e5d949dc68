"""What idle connections cost: memory of `smtp` for each of them, and how new mail flows beside them.

Opens thousands of connections that say EHLO and then nothing, in the clear and over TLS, on a temporary instance.
"""

import argparse
import resource
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

from bench.temporary import PORT_BASE, emptied, instance, mailbox_of, memory_of
from bench.way_through import measure_throughput

LISTENERS = {"in the clear": PORT_BASE, "over TLS": PORT_BASE + 2}


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """A session that has said EHLO and got its answer."""
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    if context is not None:
        client = context.wrap_socket(client)
    assert client.recv(1000).startswith(b"220 ")
    client.sendall(b"EHLO bench.example\r\n")
    answer = b""
    while b"\r\n250 " not in answer:
        answer += client.recv(4000)
    return client


def flow(root: Path, messages: int) -> float:
    """Messages a second through to the mailbox, which is emptied first."""
    return measure_throughput(PORT_BASE, emptied(mailbox_of(root)), messages, 20)


def main() -> None:
    """Measure with none, then with so many, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--messages", type=int, default=2000)
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is self-signed, and our own
    most = asked.connections + 100
    for words, port in LISTENERS.items():
        with instance(smtp__max_connections=most, smtp__max_connections_per_address=most) as root, ExitStack() as stack:
            flow(root, asked.messages // 4)
            alone = flow(root, asked.messages)
            before, start = memory_of(root, "smtp"), time.monotonic()
            for _ in range(asked.connections):
                stack.enter_context(connect(port, context if port != PORT_BASE else None))
            seconds = time.monotonic() - start
            each = (memory_of(root, "smtp") - before) / asked.connections / 1024
            beside = flow(root, asked.messages)
        print(f"{asked.connections} idle connections {words}: {each:.1f} KiB each, opened in {seconds:.1f} s;", end=" ")
        print(f"messages through: {alone:.0f}/s without them, {beside:.0f}/s beside them")


if __name__ == "__main__":
    main()
