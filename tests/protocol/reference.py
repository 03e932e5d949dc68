"""What the octets of a well-formed SMTP dialogue say, written as plainly as can be: the measure of the session.

No buffers, no states: the whole stream at hand, and the two ways in which RFC 5321 §4.5.2 and RFC 3030 §2 frame a
message. Every message of the stream stands in a transaction of its own; what may not be taken becomes `Refused`.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that may not be taken; after a chunk that was refused, the others are dropped."""


def messages_of(stream: bytes, max_octets: int, max_line: int) -> list[bytes | Refused]:
    """The content of each message, in order."""
    found: list[bytes | Refused] = []
    while stream:
        line, _, stream = stream.partition(b"\r\n")
        if line == b"DATA":
            content, stream = _until_the_dot(stream)
            found.append(_judged(content, max_octets, max_line))
        elif line.startswith(b"BDAT"):
            content, stream = _all_chunks(line, stream)
            found.append(_judged(content, max_octets, max_line))
    return found


def _until_the_dot(stream: bytes) -> tuple[bytes, bytes]:
    """The lines before the one that is a dot, each without the dot before it; and what comes after."""
    content = b""
    while True:
        line, crlf, stream = stream.partition(b"\r\n")
        assert crlf, "the stream ends before the message"
        if line == b".":
            return content, stream
        content += (line[1:] if line.startswith(b".") else line) + b"\r\n"


def _all_chunks(line: bytes, stream: bytes) -> tuple[bytes, bytes]:
    """The octets that this and the next commands count; and what comes after."""
    content = b""
    while True:
        words = line.split(b" ")
        octets = int(words[1])
        content, stream = content + stream[:octets], stream[octets:]
        if words[2:] == [b"LAST"]:
            return content, stream
        line, _, stream = stream.partition(b"\r\n")


def _judged(content: bytes, max_octets: int, max_line: int) -> bytes | Refused:
    if re.search(rb"\r(?!\n)|(?<!\r)\n|\0", content) or len(content) > max_octets:
        return Refused()
    if any(len(line) > max_line for line in re.findall(rb"(?s)(?:(?!\r\n).)*\r\n|.+", content)):
        return Refused()
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"  # an unfinished line is ended
