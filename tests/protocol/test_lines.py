"""Command lines: CRLF ends one, nothing else does, and memory stays bounded."""

from hypothesis import given
from hypothesis import strategies as st

from mailsrv.protocol.lines import Fault, Line, LineReader
from tests.protocol.properties import BOUNDED, SIZES, pieces

STREAMS = st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"NOOP", b"x" * 9, b"y" * 40]), max_size=20).map(b"".join)


def lines(octets: list[bytes], limit: int = 20) -> list[Line]:
    reader, found = LineReader(limit), []
    for each in octets:
        reader.feed(each)
        while (line := reader.next_line()) is not None:
            found.append(line._replace(beginning=b""))
    return found


@BOUNDED
@given(STREAMS, SIZES)
def test_lines_are_the_same_whatever_the_split(stream: bytes, sizes: list[int]) -> None:
    stream += b"\r\n"
    assert lines(pieces(stream, sizes)) == lines([stream])
    assert len(lines([stream])) == stream.count(b"\n")


def test_a_line_may_have_exactly_the_limit_with_its_crlf() -> None:
    assert lines([b"x" * 18 + b"\r\n"]) == [Line(b"x" * 18)]
    assert lines([b"x" * 19 + b"\r\n"]) == [Line(b"", Fault.TOO_LONG)]


def test_a_line_without_end_is_not_kept() -> None:
    reader = LineReader(20)
    for _ in range(1000):
        reader.feed(b"x" * 100)
        reader.next_line()
        assert len(reader) <= 20


def test_the_octets_of_a_faulty_line_are_not_handed_out() -> None:
    for line in lines([b"QUIT\n", b"QU\rIT\r\n", b"Q" * 30 + b"\r\n"]):
        assert line.fault is not None
        assert line.octets == b""


def test_take_gives_what_was_not_used_and_forgets_it() -> None:
    reader = LineReader(20)
    reader.feed(b"DATA\r\ncontent")
    assert reader.next_line() == Line(b"DATA")
    assert reader.take(3) == b"con"
    assert reader.take(100) == b"tent"
    assert len(reader) == 0
    reader.feed(b"NOOP\r\n")
    assert reader.next_line() == Line(b"NOOP")
