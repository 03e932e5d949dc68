"""SMTP replies (RFC 5321 §4.2) with their enhanced status codes (RFC 2034, RFC 3463): every one that we send.

The class digit of an enhanced code is never written down: it is the first digit of the reply code, so the
two cannot disagree. No reply carries text from inside mailsrv.
"""

from dataclasses import dataclass, replace
from typing import Final

MAX_LINE: Final = 510  # octets without CRLF, RFC 5321 §4.5.3.1.5


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; `subject` is the enhanced code without its class ("1.1"), or None where RFC 2034 §3 sends none.

    A text of several lines becomes a multi-line reply.
    """

    code: int
    subject: str | None
    text: str

    @property
    def status(self) -> str:
        """The whole enhanced status code, such as `5.1.1`."""
        return f"{self.code // 100}.{self.subject or '0.0'}"

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def saying(self, text: str) -> "Reply":
        """The same codes with another text."""
        return replace(self, text=text)

    def __str__(self) -> str:
        return bytes(self).decode("ascii").rstrip().replace("\r\n", " / ")

    def __bytes__(self) -> bytes:
        status = f"{self.status} " if self.subject else ""
        *first, last = self.text.split("\n")
        lines = [*(f"{self.code}-{status}{line}" for line in first), f"{self.code} {status}{last}"]
        return b"".join(line[:MAX_LINE].encode("ascii", "replace") + b"\r\n" for line in lines)


# 2yz, 3yz: as asked.
GREETING: Final = Reply(220, None, "ESMTP mailsrv")
HELP: Final = Reply(214, "0.0", "commands")
CLOSING: Final = Reply(221, "0.0", "closing the connection")
HELLO: Final = Reply(250, None, "at your service")
OK: Final = Reply(250, "0.0", "OK")
SENDER_OK: Final = Reply(250, "1.0", "sender OK")
RECIPIENT_OK: Final = Reply(250, "1.5", "recipient OK")
QUEUED: Final = Reply(250, "0.0", "queued")
CANNOT_VERIFY: Final = Reply(252, "1.5", "cannot verify, but will take mail and try to deliver it")
SEND_CONTENT: Final = Reply(354, None, "send the message, end with <CRLF>.<CRLF>")

# 4yz: our fault, or for now.
SHUTTING_DOWN: Final = Reply(421, "3.2", "the service is stopping, try again soon")
TOO_MANY_CONNECTIONS: Final = Reply(421, "3.2", "too many connections, try again later")
IDLE_TOO_LONG: Final = Reply(421, "4.2", "idle for too long, closing the connection")
BROKEN_OFF: Final = Reply(421, "3.0", "a fault on our side, try again later")
TOO_MANY_ERRORS: Final = Reply(421, "7.0", "too many errors, closing the connection")
LOCAL_ERROR: Final = Reply(451, "3.0", "a fault on our side, try again later")
TOO_MANY_RECIPIENTS: Final = Reply(452, "5.3", "too many recipients, send the others in another transaction")
INSUFFICIENT_STORAGE: Final = Reply(452, "3.1", "insufficient storage, try again later")

# 5yz: theirs.
UNKNOWN_COMMAND: Final = Reply(500, "5.1", "unknown command")
LINE_TOO_LONG: Final = Reply(500, "5.2", "the line is too long")
BARE_LINE_END: Final = Reply(500, "5.2", "lines end with CRLF, a bare CR or LF is refused")
SYNTAX: Final = Reply(501, "5.4", "syntax")
NOT_IMPLEMENTED: Final = Reply(502, "5.1", "the command is not implemented")
BAD_SEQUENCE: Final = Reply(503, "5.1", "bad sequence of commands")
UNKNOWN_BODY: Final = Reply(501, "5.4", "BODY is 7BIT or 8BITMIME")
NO_SUCH_MAILBOX: Final = Reply(550, "1.1", "no such mailbox here")
RELAY_DENIED: Final = Reply(550, "7.1", "relaying denied")
EXPIRED: Final = Reply(550, "4.7", "could not be delivered in time")
ALIAS_LOOP: Final = Reply(550, "4.6", "the alias leads back to itself")
MESSAGE_TOO_BIG: Final = Reply(552, "3.4", "the message exceeds the size limit")
BARE_LINE_END_IN_CONTENT: Final = Reply(554, "6.0", "a bare CR or LF in the message is refused")
UNKNOWN_PARAMETER: Final = Reply(555, "5.4", "unknown parameter")
