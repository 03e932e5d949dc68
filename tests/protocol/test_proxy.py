"""The PROXY protocol: what a proxy says of its client, and that nothing else is taken for it."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.protocol.proxy import MAX_LENGTH, MAX_LINE, Preface, PrefaceError, PrefaceReader
from tests.protocol.properties import BOUNDED, SIZES, pieces

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
EHLO = b"EHLO client.example\r\n"
V4 = IPv4Address("192.0.2.7").packed + IPv4Address("198.51.100.1").packed + b"\xc3\x50\x00\x19"
V6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + b"\xc3\x50\x00\x19"
MAPPED = IPv6Address("::ffff:192.0.2.7").packed + V6[16:]
LONGEST = b"PROXY UNKNOWN " + b"f" * (MAX_LINE - 16) + b"\r\n"


def binary(addresses: bytes = V4, kind: int = 0x11, command: int = 0x21, length: int | None = None) -> bytes:
    """A preface of version 2."""
    told = len(addresses) if length is None else length
    return SIGNATURE + bytes((command, kind)) + told.to_bytes(2, "big") + addresses


def read(octets: list[bytes]) -> Preface | str | None:
    """The preface, None where more is needed, or why there is none."""
    reader = PrefaceReader()
    try:
        for number, piece in enumerate(octets):
            reader.feed(piece)
            if reader.preface is not None:
                return Preface(reader.preface.address, b"".join((reader.preface.rest, *octets[number + 1 :])))
    except PrefaceError as error:
        return str(error)
    return None


def read_in_both_ways(octets: bytes) -> Preface | str | None:
    """What `read` gives, whole and octet by octet."""
    whole = read([octets])
    assert read(pieces(octets, [1])) == whole
    return whole


@pytest.mark.parametrize(
    ("preface", "address"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r\n", "192.0.2.7"),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:DB8::7 2001:db8::1 50000 25\r\n", "2001:db8::7"),
        (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", ":".join(["ffff"] * 8)),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 50000 25\r\n", "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN \r \n \xff 192.0.2.7\r\n", None),
        (LONGEST, None),
    ],
)
def test_a_line_tells_the_client(preface: bytes, address: str | None) -> None:
    assert read_in_both_ways(preface) == Preface(address, b"")
    assert read_in_both_ways(preface + EHLO) == Preface(address, EHLO)


@pytest.mark.parametrize(
    ("preface", "address"),
    [
        (binary(), "192.0.2.7"),
        (binary(V6, 0x21), "2001:db8::7"),
        (binary(MAPPED, 0x21), "192.0.2.7"),
        (binary(V4 + b"\x04\x00\x03abc"), "192.0.2.7"),
        (binary(V4 + b"\x01\xff\xff"), "192.0.2.7"),  # values are skipped unread
        (binary(V4.ljust(MAX_LENGTH, b"\x00")), "192.0.2.7"),
        (binary(V4, 0x12), None),
        (binary(V6, 0x22), None),
        (binary(V4, 0x10), None),
        (binary(b"\x00" * 216, 0x31), None),
        (binary(b"", 0x00), None),
        (binary(V4, 0x00), None),
        (binary(b"", 0x00, command=0x20), None),
        (binary(V4, 0x11, command=0x20), None),
        (binary(b"", 0x11, command=0x20), None),
        (binary(b"1234", 0xFF, command=0x20), None),
    ],
)
def test_a_binary_preface_tells_the_client(preface: bytes, address: str | None) -> None:
    assert read_in_both_ways(preface) == Preface(address, b"")
    assert read_in_both_ways(preface + EHLO) == Preface(address, EHLO)


@pytest.mark.parametrize(
    "octets",
    [
        EHLO,
        b"\x16\x03\x01\x02\x00\x01",
        b"proxy TCP4 192.0.2.7 198.51.100.1 50000 25\r\n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 50000 25\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 50000 25\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25 \r\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 50000 25\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 50000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.256 50000 25\r\n",
        b"PROXY TCP4 192.0.2 198.51.100.1 50000 25\r\n",
        b"PROXY TCP4 192.0.2.\xb2 198.51.100.1 50000 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 50000 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 50000 25\r\n",
        b"PROXY TCP6 fe80::7%eth0 fe80::1 50000 25\r\n",
        b"PROXY TCP6 fe80::7 fe80::1%1 50000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 050000 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 -1\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 +25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\n" + EHLO,
        b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r" + EHLO,
        LONGEST[:-2] + b"f\r\n",
        b"PROXY UNKNOWN " * 10,
        binary(command=0x11),
        binary(command=0x31),
        binary(command=0x22),
        binary(kind=0x41),
        binary(kind=0x13),
        binary(V4[:11]),
        binary(V6[:35], 0x21),
        binary(b"\x00" * 215, 0x31),
        binary(length=MAX_LENGTH + 1),
        binary(length=MAX_LENGTH + 1, command=0x20),
        SIGNATURE[:11] + b"\r\n" + b"\x21\x11\x00\x0c" + V4,
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    assert isinstance(read_in_both_ways(octets), str)


@pytest.mark.parametrize(
    "preface", [b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 25\r\n", LONGEST, binary(), binary(V6, 0x21)]
)
def test_a_preface_that_is_not_whole_needs_more(preface: bytes) -> None:
    assert {read([preface[:length]]) for length in range(len(preface))} == {None}


@pytest.mark.parametrize("octets", [b"E", b"PROXX", b"\r\n\r\n\r", b"PROXY\t"])
def test_what_cannot_become_a_preface_is_refused_at_once(octets: bytes) -> None:
    assert isinstance(read([octets]), str)


def test_a_whole_preface_takes_no_more() -> None:
    reader = PrefaceReader()
    reader.feed(binary())
    with pytest.raises(RuntimeError):
        reader.feed(EHLO)


PARTS = st.one_of(
    st.sampled_from([b"PROXY ", b"TCP4", b"TCP6 ", b"UNKNOWN", b" ", b"\r\n", b"192.0.2.7 ", b"::1 ", b"25", b"0"]),
    st.sampled_from([SIGNATURE, b"\x21", b"\x20", b"\x11", b"\x21\x00\x24", b"\x00\x0c", V4, V6]),
    st.binary(max_size=120),
)
BEGINNINGS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 192.0.2.7 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])


@BOUNDED
@given(BEGINNINGS, st.lists(PARTS, max_size=8), SIZES)
def test_any_octets_in_any_pieces_give_the_same_preface_refusal_or_need_for_more(
    beginning: bytes, parts: list[bytes], sizes: list[int]
) -> None:
    octets = beginning + b"".join(parts)
    assert read(pieces(octets, sizes)) == read([octets])


@BOUNDED
@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 65535), st.binary(max_size=300), st.binary()
)
def test_every_address_is_read_from_both_versions(
    address: IPv4Address | IPv6Address, port: int, values: bytes, rest: bytes
) -> None:
    expected = Preface(str(getattr(address, "ipv4_mapped", None) or address), rest)
    line = f"PROXY TCP{address.version} {address} {address} {port} {port}\r\n".encode()
    assert read([line + rest]) == expected
    kind = 0x11 if address.version == 4 else 0x21
    assert read([binary(address.packed * 2 + port.to_bytes(2, "big") * 2 + values, kind) + rest]) == expected
