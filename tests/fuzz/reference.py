"""What a client's octets say, read plainly and slowly: a second opinion on what a session took.

It walks through the octets with the codes of the replies beside it: each command is owed its reply, 354 is followed by
content up to CRLF.CRLF, BDAT by its octets. Nothing of mailsrv is used here, so that no mistake is made twice. An
AssertionError says where the replies and the octets do not go together.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MAX_LINE: Final = 12_290  # octets of the longest command line with CRLF
MAX_REPLY: Final = 512
MAX_CHALLENGE: Final = 12_290  # RFC 4954 §4
MAX_RECEIVED: Final = 100
CLOSING: Final = (221, 421)
WORDS: Final = frozenset(b"EHLO HELO LHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT".split())
STARTING_ANEW: Final = frozenset([b"EHLO", b"HELO", b"LHLO", b"RSET"])

_REPLY_LINE: Final = re.compile(rb"([2345][0-5][0-9])([ -])(?:([245])\.\d{1,3}\.\d{1,3} )?[\t -~]*\r\n")
_CHUNK: Final = re.compile(rb" +([0-9]{1,20})( +LAST)? *", re.IGNORECASE)
_FIELD: Final = re.compile(rb"([!-9;-~]{1,900})[ \t]{0,90}:")  # a name that fits into a line of RFC 5322


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a message may measure, in octets."""

    message: int
    line: int


@dataclass(frozen=True, slots=True)
class Message:
    """One that was answered 250: the lines of its MAIL and RCPT, and its content."""

    sender: bytes
    recipients: tuple[bytes, ...]
    content: bytes


def reply_codes(said: bytes) -> Iterator[int]:
    """The code of each reply, one of several lines counting once; an AssertionError where one is badly formed."""
    within = b""
    for line in said.splitlines(keepends=True):
        match = _REPLY_LINE.fullmatch(line)
        assert match is not None, f"no reply line: {line!r}"
        code, mark, status_class = match.groups()
        assert len(line) <= (MAX_CHALLENGE if code == b"334" else MAX_REPLY), f"a long reply line: {line!r}"
        assert status_class in (None, code[:1]), f"an enhanced code of another class: {line!r}"
        assert within in (b"", code), f"another code within a reply: {line!r}"
        within = code if mark == b"-" else b""
        if not within:
            yield int(code)
    assert not within, "a reply without its last line"


def header_of(content: bytes) -> tuple[bytes, list[str], bool]:
    """The header, the names of its fields, and whether an empty line ends it."""
    header = b""
    names: list[str] = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", content):
        field = _FIELD.match(line)
        if field is None and line[:1] not in (b" ", b"\t"):
            return header, names, line == b"\r\n"
        if field is not None:
            names.append(field[1].decode("ascii").lower())
        header += line
    return header, names, False


def faults_of(content: bytes, bounds: Bounds, *, is_whole: bool) -> list[str]:
    """Why the content may not be taken; of one that is not whole, the last line may go on."""
    *lines, last = content.split(b"\n")
    open_line = last + b"\r\n" if is_whole and last else last
    longest = max([len(open_line), *(len(line) + 1 for line in lines)])
    settled = content if is_whole else content.removesuffix(b"\r")
    without_pairs = settled.replace(b"\r\n", b"")
    shown = content if is_whole else content[: len(content) - len(last)]
    found = {
        "a bare CR or LF": b"\r" in without_pairs or b"\n" in without_pairs,
        "a NUL": b"\0" in content,
        "a long line": longest > bounds.line,
        "many octets": len(content) > bounds.message,
        "many Received lines": header_of(shown)[1].count("received") > MAX_RECEIVED,
    }
    return [fault for fault, is_found in found.items() if is_found]


class Reading:
    """One dialogue, read; `messages` are those that were taken."""

    def __init__(self, octets: bytes, codes: Iterable[int], bounds: Bounds, *, is_lmtp: bool) -> None:
        self._left = octets
        self._codes = deque(codes)
        self._bounds = bounds
        self._is_lmtp = is_lmtp
        self._is_challenged = False
        self._sender = b""
        self._recipients: list[bytes] = []
        self._chunks = b""
        self._has_chunks = False
        self._lost = 0  # recipients of a transaction that a chunk has ended, until its last one
        self.is_closed = False
        self.messages: list[Message] = []
        self._answer(b"the greeting")
        while not self.is_closed and (line := self._next_line()) is not None:
            self._follow(line)
        assert not self._codes, f"replies that nothing asked for: {list(self._codes)}"

    def _answer(self, to: bytes) -> int:
        assert self._codes, f"no reply to {to[:80]!r}"
        code = self._codes.popleft()
        self.is_closed = self.is_closed or code in CLOSING
        return code

    def _next_line(self) -> bytes | None:
        end = self._left.find(b"\n")
        if end < 0:
            rest, self._left = self._left, b""
            return rest if len(rest) > MAX_LINE else None  # answered at once, the rest of it is waited for
        line, self._left = self._left[: end + 1], self._left[end + 1 :]
        return line

    def _follow(self, line: bytes) -> None:
        is_response, self._is_challenged = self._is_challenged, False
        word, argument = (b"", b"") if is_response else _command(line)
        if word == b"BDAT":
            self._take_chunk(line, argument)
            return
        code = self._answer(line)
        assert code >= 300 or is_response or word in WORDS, f"{code} to {line!r}"
        if code == 354:
            assert (word, argument.strip(b" ")) == (b"DATA", b""), f"354 to {line!r}"
            self._take_content()
        elif code == 250:
            self._take_command(word, line)
        elif word == b"DATA" and code < 500:
            self._forget()
        self._is_challenged = code == 334
        assert code != 334 or is_response or word == b"AUTH", f"334 to {line!r}"

    def _take_command(self, word: bytes, line: bytes) -> None:
        if word == b"MAIL":
            self._sender, self._recipients = line, []
        elif word == b"RCPT":
            self._recipients.append(line)
        elif word in STARTING_ANEW:
            self._forget()

    def _forget(self, *, lost: int = 0) -> None:
        self._sender, self._recipients, self._chunks, self._has_chunks = b"", [], b"", False
        self._lost = lost

    def _take_content(self) -> None:
        content = b""
        while (end := self._left.find(b"\r\n")) >= 0:
            line, self._left = self._left[: end + 2], self._left[end + 2 :]
            if line == b".\r\n":
                self._end_message(content)
                return
            content += line.removeprefix(b".")
        self._left = b""

    def _take_chunk(self, line: bytes, argument: bytes) -> None:
        chunk = _CHUNK.fullmatch(argument)
        if chunk is None:
            code = self._answer(line)
            assert code == 501, f"{code} to {line!r}"
            self.is_closed = True  # what follows may be commands or content
            return
        size = int(chunk[1])
        if len(self._left) < size:
            self._left = b""
            return
        octets, self._left = self._left[:size], self._left[size:]
        if not self._recipients:
            for _ in range(self._replies_without_recipients(is_last=chunk[2] is not None)):
                code = self._answer(line)
                assert code == 503, f"{code} to {line!r} without recipients"
            return
        self._chunks, self._has_chunks = self._chunks + octets, True
        if chunk[2] is not None:
            self._end_message(self._chunks)
        elif self._judge(self._answer(line), self._chunks, is_whole=False) != 250:
            self._forget(lost=len(self._recipients))

    def _replies_without_recipients(self, *, is_last: bool) -> int:
        """RFC 2033 §4.3: LMTP answers the last chunk for each recipient, also where the transaction has failed."""
        if not self._is_lmtp or not is_last:
            return 1
        replies, self._lost = (0 if self._sender else self._lost or 1), 0
        return replies

    def _end_message(self, content: bytes) -> None:
        """RFC 2033 §4.2, §4.3: LMTP gives one reply for each recipient."""
        codes = [self._answer(b"the end of the message") for _ in (self._recipients if self._is_lmtp else [b""])]
        assert len(set(codes)) == 1, f"different answers: {codes}"
        if self._judge(codes[0], content, is_whole=True) == 250:
            ending = b"" if not content or content.endswith(b"\n") else b"\r\n"
            self.messages.append(Message(self._sender, tuple(self._recipients), content + ending))
        self._forget()

    def _judge(self, code: int, content: bytes, *, is_whole: bool) -> int:
        faults = faults_of(content, self._bounds, is_whole=is_whole)
        # 451 is the world's: it is asked before a chunk is looked at, so it may stand for a fault as well.
        allowed = ((552, 554, 451) if self._has_chunks else (552, 554)) if faults else (250, 451)
        assert code in allowed, f"{code} to content {content[:80]!r} with faults {faults}"
        return code


def _command(line: bytes) -> tuple[bytes, bytes]:
    """The verb in capitals, and what follows it; empty where the line is none that could be a command."""
    text = line.removesuffix(b"\r\n")
    if text == line or b"\r" in text or len(line) > MAX_LINE:
        # Nothing of such a line is run; of BDAT nothing that follows either.
        return (b"BDAT", b"") if re.match(rb"BDAT[ \r\n]", line, re.IGNORECASE) else (b"", b"")
    if text[:5].upper() == b"BDAT ":  # judged by itself, however long and whatever it holds: octets follow it
        return b"BDAT", text[4:]
    try:
        text.decode()
    except UnicodeDecodeError:
        return b"", b""
    word, _, argument = text.partition(b" ")
    word = word.upper()
    return word, b" " + argument if argument else b""
