"""Looking up names: at a real dnsmasq, and at a server of our own that says what dnsmasq never would."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from mailsrv.host import resolver as module
from mailsrv.host.resolver import Absent, Answer, Exchange, Found, Kind, Resolver, Trouble
from tests.nameserver import nameserver

RECORDS = (
    "mx-host=a.example,mx2.a.example,20",
    "mx-host=a.example,MX1.a.example,10",
    "mx-host=null.example,.,0",
    "cname=alias.example,a.example",
    "txt-record=a.example,v=one,two",
    "host-record=mx1.a.example,127.0.0.3,::1",
    "mx-host=xn--bcher-kva.example,mx1.a.example,10",
    *(f"mx-host=many.example,host{number}.many.example,10" for number in range(80)),
)


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[[str, Kind], Answer]]:
    with nameserver(*RECORDS) as place:
        yield Resolver([place], 2, 5).ask


@contextmanager
def answering(make: Callable[[dns.message.Message], dns.message.Message | None]) -> Iterator[str]:
    """A server that answers each question by `make`, or not at all."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (received := server.recvfrom(4096))[0]:
                response = make(dns.message.from_wire(received[0]))
                if response is not None:
                    server.sendto(response.to_wire(), received[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            with socket.socket(type=socket.SOCK_DGRAM) as last:
                last.sendto(b"", server.getsockname())
            thread.join()


def test_records_of_mx_come_with_their_preference(ask: Callable[[str, Kind], Answer]) -> None:
    found = ask("a.example", Kind.MX)
    assert isinstance(found, Found)
    assert set(found.records) == {Exchange(10, "mx1.a.example"), Exchange(20, "mx2.a.example")}
    assert not found.is_authentic


def test_an_alias_is_followed_and_says_where_it_led(ask: Callable[[str, Kind], Answer]) -> None:
    found = ask("alias.example", Kind.MX)
    assert isinstance(found, Found)
    assert found.name == "a.example"
    assert len(found.records) == 2


def test_a_null_mx_is_a_host_without_a_name(ask: Callable[[str, Kind], Answer]) -> None:
    found = ask("null.example", Kind.MX)
    assert isinstance(found, Found)
    assert found.records == (Exchange(0, ""),)


def test_addresses_of_both_families_and_texts_of_several_strings(ask: Callable[[str, Kind], Answer]) -> None:
    assert ask("mx1.a.example", Kind.A) == Found(("127.0.0.3",), "mx1.a.example")
    assert ask("mx1.a.example", Kind.AAAA) == Found(("::1",), "mx1.a.example")
    assert ask("a.example", Kind.TXT) == Found((b"v=onetwo",), "a.example")


def test_no_name_and_no_record_of_the_kind_are_told_apart(ask: Callable[[str, Kind], Answer]) -> None:
    assert ask("nowhere.example", Kind.MX) == Absent(has_name=False)
    assert ask("mx1.a.example", Kind.MX) == Absent(has_name=True)
    assert ask("a..example", Kind.MX) == Absent(has_name=False)
    assert ask(f"{'a' * 64}.example", Kind.MX) == Absent(has_name=False)


def test_a_domain_in_u_labels_is_asked_for_in_a_labels(ask: Callable[[str, Kind], Answer]) -> None:
    assert ask("bücher.example", Kind.MX) == Found((Exchange(10, "mx1.a.example"),), "xn--bcher-kva.example")


def test_what_does_not_fit_into_a_datagram_is_fetched_by_tcp(ask: Callable[[str, Kind], Answer]) -> None:
    found = ask("many.example", Kind.MX)
    assert isinstance(found, Found)
    assert len(found.records) == 80


def test_a_name_outside_of_what_the_server_knows_is_trouble(ask: Callable[[str, Kind], Answer]) -> None:
    """dnsmasq has nobody to ask: REFUSED."""
    assert isinstance(ask("elsewhere.test", Kind.MX), Trouble)


def test_a_server_that_vouches_for_its_answer_is_believed_to() -> None:
    def authentic(question: dns.message.Message) -> dns.message.Message:
        assert question.flags & dns.flags.AD
        assert question.ednsflags & dns.flags.DO
        response = dns.message.make_response(question)
        response.flags |= dns.flags.AD
        name = question.question[0].name
        if str(name) == "none.example.":
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            response.answer = [dns.rrset.from_text(name, 60, "IN", "TLSA", f"3 1 1 {'00ff' * 16}")]
        return response

    with answering(authentic) as place:
        asked = Resolver([place], 2, 5)
        found = asked.ask("_25._tcp.mx.example", Kind.TLSA)
        assert found == Found(
            (module.Association(3, 1, 1, b"\x00\xff" * 16),), "_25._tcp.mx.example", is_authentic=True
        )
        assert asked.ask("none.example", Kind.TLSA) == Absent(has_name=False, is_authentic=True)


def test_a_server_that_fails_and_one_that_is_silent_are_trouble_within_the_lifetime() -> None:
    def failing(question: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(question)
        response.set_rcode(dns.rcode.SERVFAIL)
        return response

    with answering(failing) as place:
        assert isinstance(Resolver([place], 0.2, 0.5).ask("a.example", Kind.MX), Trouble)
    with answering(lambda _question: None) as place:
        assert isinstance(Resolver([place], 0.2, 0.5).ask("a.example", Kind.MX), Trouble)


def test_the_next_server_is_asked_where_the_first_is_silent() -> None:
    with answering(lambda _question: None) as silent, nameserver(*RECORDS) as place:
        assert isinstance(Resolver([silent, place], 0.2, 5).ask("a.example", Kind.MX), Found)


def test_an_answer_is_remembered() -> None:
    asked: list[str] = []

    def counted(question: dns.message.Message) -> dns.message.Message:
        asked.append(str(question.question[0].name))
        response = dns.message.make_response(question)
        response.answer = [dns.rrset.from_text(question.question[0].name, 60, "IN", "A", "192.0.2.1")]
        return response

    with answering(counted) as place:
        resolver = Resolver([place], 2, 5)
        assert resolver.ask("a.example", Kind.A) == resolver.ask("A.EXAMPLE", Kind.A)
    assert len(asked) == 1


def test_the_system_s_servers_are_read_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SYSTEM", tmp_path / "resolv.conf")
    resolver = Resolver([], 0.1, 0.1)
    assert isinstance(resolver.ask("a.example", Kind.A), Trouble)  # there is no such file
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    assert [str(each) for each in resolver._resolver().nameservers] == ["127.0.0.1"]
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.2\nnameserver 127.0.0.1\n")
    assert [str(each) for each in resolver._resolver().nameservers] == ["127.0.0.2", "127.0.0.1"]
    assert resolver._resolver() is resolver._resolver()
