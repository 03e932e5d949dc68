"""The replies of a server as a client reads them (RFC 5321 §4.2), of as many lines as they have; what EHLO offers."""

import re
from dataclasses import dataclass, field
from typing import Final

from mailsrv.model.reply import Reply
from mailsrv.protocol.lines import LineReader

MAX_REPLY_LINE: Final = 4096  # octets; RFC 5321 §4.5.3.1.5 says 512, and servers that say more are understood
MAX_REPLY_LINES: Final = 500

_LINE: Final = re.compile(r"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_STATUS: Final = re.compile(r"([245])\.(\d{1,3}\.\d{1,3})(?: |$)")
_KEYWORD: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?: +(.*))?")


class NotSmtpError(Exception):
    """What came is no reply, or one that never ends."""


class ReplyReader:
    """Octets in, replies out."""

    def __init__(self) -> None:
        self._lines = LineReader(MAX_REPLY_LINE)
        self._code = ""
        self._texts: list[str] = []
        self._subject: str | None = None

    def __len__(self) -> int:
        """Octets not yet used."""
        return len(self._lines)

    def feed(self, octets: bytes) -> None:
        """Octets from the server."""
        self._lines.feed(octets)

    def next_reply(self) -> Reply | None:
        """The next reply, its lines apart by LF, or None while it is not whole; raises NotSmtpError."""
        while (line := self._lines.next_line()) is not None:
            match = _LINE.fullmatch(_printable(line.octets)) if line.fault is None else None
            if match is None or len(self._texts) >= MAX_REPLY_LINES or self._code not in ("", match[1]):
                raise NotSmtpError
            self._code = match[1]
            self._texts.append(self._without_status(match[3] or ""))
            if match[2] != "-":
                answer = Reply(int(self._code), self._subject, "\n".join(self._texts))
                self._code, self._texts, self._subject = "", [], None
                return answer
        return None

    def _without_status(self, text: str) -> str:
        """The text of a line; the enhanced code (RFC 2034 §4) counts where its class is that of the reply."""
        status = _STATUS.match(text)
        if status is None or status[1] != self._code[0]:
            return text
        self._subject = self._subject or status[2]
        return text[status.end() :]


@dataclass(frozen=True, slots=True)
class Offered:
    """The extensions of a server: keywords in capitals, with what stands behind them; and its name, as it says."""

    keywords: dict[str, str] = field(default_factory=dict)
    name: str = ""

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def max_octets(self) -> int:
        """The largest message that it takes (RFC 1870 §4); 0 where it says nothing of it."""
        return _number(self.keywords.get("SIZE", ""))

    @property
    def max_recipients(self) -> int:
        """Recipients of a transaction (RFC 9422 §4); 0 where it says nothing of it."""
        limits = dict(word.upper().partition("=")[::2] for word in self.keywords.get("LIMITS", "").split())
        return _number(limits.get("RCPTMAX", ""))

    @property
    def mechanisms(self) -> frozenset[str]:
        """Of AUTH."""
        return frozenset(self.keywords.get("AUTH", "").upper().split())


def offered_by(answer: Reply) -> Offered:
    """The extensions in the answer to EHLO (RFC 5321 §4.1.1.1); a line that is none is passed over."""
    first, *lines = answer.text.split("\n")
    matches = [_KEYWORD.fullmatch(line.strip()) for line in lines]
    return Offered({match[1].upper(): match[2] or "" for match in matches if match}, first.strip().partition(" ")[0])


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else 0


def _printable(octets: bytes) -> str:
    return "".join(each if each.isprintable() else "?" for each in octets.decode("utf-8", "replace"))
