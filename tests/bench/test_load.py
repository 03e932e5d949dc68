"""The load generator believes nothing: each reply and each octet is checked."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from bench.load import Client, Letters, Sender, retrieve, together

LETTERS: Final = Letters(600)
SESSION: Final = {  # what a good server answers
    b"EHLO": b"250-server\r\n250 PIPELINING\r\n",
    b"MAIL": b"250 2.1.0 yes\r\n",
    b"RCPT": b"250 2.1.5 yes\r\n",
    b"DATA": b"354 go on\r\n",
    b".": b"250 2.0.0 queued\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}


@contextmanager
def server(greeting: bytes, answer: Callable[[bytes], bytes | None]) -> Iterator[int]:
    """The port of a server that gives each line its answer, and hangs up where there is none."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rb") as lines:
            client.sendall(greeting)
            for line in lines:
                said = answer(line.rstrip(b"\r\n"))
                if said is None:
                    return
                client.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(20)


def smtp(changed: dict[bytes, bytes | None]) -> Callable[[bytes], bytes | None]:
    answers: dict[bytes, bytes | None] = {**SESSION, **changed}
    return lambda line: answers.get(line if line == b"." else line[:4], b"")


def send(port: int, number: int) -> Client:
    return Sender(port, "bob@example.org", LETTERS).send_all(iter(range(number)), anew=False)


def test_messages_are_sent_one_after_another_octet_for_octet() -> None:
    heard: list[bytes] = []

    def answer(line: bytes) -> bytes | None:
        heard.append(line)
        return smtp({})(line)

    with server(b"220 server\r\n", answer) as port:
        together([send(port, 2)])
    content = b"".join(line + b"\r\n" for line in heard)
    assert LETTERS.ended(0) in content
    assert LETTERS.ended(1) in content
    assert heard.count(b"DATA") == 2


def test_a_server_that_does_not_offer_pipelining_gets_one_command_at_a_time() -> None:
    with server(b"220 server\r\n", smtp({b"EHLO": b"250 server\r\n"})) as port:
        together([send(port, 2)])


@pytest.mark.parametrize("command", [b"MAIL", b"RCPT", b"DATA", b"."])
def test_a_refusal_is_no_success(command: bytes) -> None:
    with server(b"220 server\r\n", smtp({command: b"451 4.3.0 no\r\n"})) as port:
        client = send(port, 1)
        with pytest.raises(AssertionError, match="451"):
            together([client])
        client.close()


def test_a_server_that_hangs_up_is_no_success() -> None:
    with server(b"220 server\r\n", smtp({b".": None})) as port, pytest.raises((EOFError, ConnectionError)):
        together([send(port, 1)])


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_message_with_one_wrong_octet_is_no_success(pipelined: bool) -> None:
    contents = [LETTERS.ended(number) for number in range(3)]
    handed = [contents[0], contents[1].replace(b"abcdef", b"abcdeg", 1), contents[2]]

    def answer(line: bytes) -> bytes:
        return b"+OK\r\n" + (handed[int(line[5:]) - 1] if line.startswith(b"RETR") else b"")

    with server(b"+OK\r\n", answer) as port, pytest.raises(AssertionError, match="instead of"):
        together([retrieve(port, "bob", "password", contents, pipelined=pipelined)])
