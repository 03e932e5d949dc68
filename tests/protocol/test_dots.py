"""The transparency of content, both ways, and the one end it has."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from mailsrv.protocol.dots import END, ContentReader, ContentWriter, ended, with_crlf
from tests.protocol.properties import BOUNDED, SIZES, pieces

# Octets of which ends, and what looks like ends, are made.
DOTTY = st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n.", b"..", b"bc", b"\xff"]), max_size=30).map(b"".join)
RAW = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n"]), max_size=30).map(b"".join)


def stuffed(content: bytes) -> bytes:
    """What a client sends for content that is empty or ends in CRLF: RFC 5321 §4.5.2, as plainly as can be."""
    return b"".join(b"." + line if line.startswith(b".") else line for line in lines_of(content)) + b".\r\n"


def lines_of(content: bytes) -> list[bytes]:
    return re.findall(rb"(?s)(?:(?!\r\n).)*\r\n|(?:(?!\r\n).)+", content)


def unstuffed(response: bytes) -> bytes:
    """What a client makes of a multi-line response: RFC 1939 §3, as plainly as can be."""
    lines = lines_of(response)
    assert lines[-1] == b".\r\n"
    assert b".\r\n" not in lines[:-1]
    return b"".join(line[1:] if line.startswith(b".") else line for line in lines[:-1])


def read(octets: list[bytes]) -> tuple[bytes, bytes, ContentReader]:
    """The content, what stands behind its end, and the reader."""
    reader, content, rest = ContentReader(), b"", b""
    for each in octets:
        if reader.ended:
            rest += each
        else:
            found, rest = reader.feed(each)
            content += found
    return content, rest, reader


def written(octets: list[bytes]) -> bytes:
    writer = ContentWriter()
    return b"".join([writer.feed(each) for each in octets]) + writer.end()


@BOUNDED
@given(DOTTY, SIZES)
def test_stuffed_content_is_read_back_whatever_the_split(content: bytes, sizes: list[int]) -> None:
    content += b"" if not content or content.endswith(b"\r\n") else b"\r\n"
    found, rest, reader = read(pieces(stuffed(content) + b"QUIT\r\n", sizes))
    assert reader.ended
    assert (found, rest) == (content, b"QUIT\r\n")


@BOUNDED
@given(RAW, SIZES)
def test_only_crlf_dot_crlf_ends_the_content(octets: bytes, sizes: list[int]) -> None:
    # The CRLF of the DATA line is the first of the content (RFC 5321 §4.1.1.4).
    end = (b"\r\n" + octets).find(END)
    found, rest, reader = read(pieces(octets, sizes))
    assert reader.ended == (end >= 0)
    if end >= 0:
        assert rest == octets[end + len(END) - 2 :]
        assert found == (b"\r\n" + octets)[: end + 2].replace(b"\r\n.", b"\r\n")[2:]


def test_five_octets_end_the_content_only_if_they_are_the_end() -> None:
    for octets in map(bytes, itertools.product(b"\r\n.", repeat=5)):
        content, rest, reader = read([bytes([octet]) for octet in b"a" + octets])
        assert reader.ended == (octets == END), octets
        assert rest == b""
        assert not reader.ended or content == b"a\r\n"


@BOUNDED
@given(RAW, SIZES)
def test_what_is_written_is_read_by_a_plain_client_as_the_content_with_crlf(octets: bytes, sizes: list[int]) -> None:
    expected = with_crlf(octets)
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert unstuffed(written(pieces(octets, sizes))) == expected


@BOUNDED
@given(DOTTY, SIZES, SIZES)
def test_what_is_written_can_be_read(content: bytes, sizes: list[int], other_sizes: list[int]) -> None:
    content = with_crlf(content.replace(b"\r\n", b"\n"))
    content += b"" if not content or content.endswith(b"\r\n") else b"\r\n"
    found, rest, reader = read(pieces(written(pieces(content, sizes)), other_sizes))
    assert (found, rest, reader.ended) == (content, b"", True)


def test_a_large_message_in_small_pieces_takes_time_in_proportion() -> None:
    """Each octet is searched once: the reader holds back four octets at most."""
    reader = ContentReader()
    given = kept = 0
    for _ in range(2000):
        found, _ = reader.feed(b"a line\r\n.")
        given, kept = given + 9, kept + len(found)
        assert given - kept <= 2002 + 4  # a dot a line is removed
    assert not reader.ended


@BOUNDED
@given(st.one_of(DOTTY, RAW), SIZES)
def test_a_whole_message_is_written_as_one_in_pieces(content: bytes, sizes: list[int]) -> None:
    writer = ContentWriter()
    in_pieces = b"".join([writer.feed(each) for each in pieces(content, sizes)]) + writer.end()
    assert ended(content) == (in_pieces, writer.octets)
