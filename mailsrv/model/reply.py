"""SMTP replies (RFC 5321 §4.2) with their enhanced status codes (RFC 2034, RFC 3463): every one that we send.

The class digit of an enhanced code is never written down: it is the first digit of the reply code, so the
two cannot disagree. No reply carries text from inside mailsrv.
"""

import functools
from dataclasses import dataclass, replace
from typing import Final

MAX_LINE: Final = 510  # octets without CRLF, RFC 5321 §4.5.3.1.5


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; `subject` is the enhanced code without its class ("1.1"), or None where RFC 2034 §4 sends none.

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

    @property
    def is_last_word(self) -> bool:
        """Whether the connection is closed behind it (RFC 5321 §3.8)."""
        return self.code == 421

    def saying(self, text: str) -> "Reply":
        """The same codes with another text."""
        return replace(self, text=text)

    def __str__(self) -> str:
        return bytes(self).decode("ascii").rstrip().replace("\r\n", " / ")

    def __bytes__(self) -> bytes:
        return _on_the_wire(self)


@functools.lru_cache(maxsize=128)  # a few replies are most of what is ever said
def _on_the_wire(reply: Reply) -> bytes:
    status = f"{reply.status} " if reply.subject else ""
    *first, last = reply.text.split("\n")
    lines = [*(f"{reply.code}-{status}{line}" for line in first), f"{reply.code} {status}{last}"]
    most = None if reply.code == CHALLENGE.code else MAX_LINE  # a challenge is no text: RFC 4954 §4
    return b"".join(line[:most].encode("ascii", "replace") + b"\r\n" for line in lines)


# 2yz, 3yz: as asked.
GREETING: Final = Reply(220, None, "ESMTP mailsrv")
HELP: Final = Reply(214, "0.0", "commands")
TLS_READY: Final = Reply(220, "0.0", "ready to start TLS")
CLOSING: Final = Reply(221, "0.0", "closing the connection")
AUTHENTICATED: Final = Reply(235, "7.0", "authenticated")
HELLO: Final = Reply(250, None, "at your service")
OK: Final = Reply(250, "0.0", "OK")
SENDER_OK: Final = Reply(250, "1.0", "sender OK")
RECIPIENT_OK: Final = Reply(250, "1.5", "recipient OK")
CHUNK_TAKEN: Final = Reply(250, "0.0", "octets received")
QUEUED: Final = Reply(250, "0.0", "queued")
CANNOT_VERIFY: Final = Reply(252, "1.5", "cannot verify, but will take mail and try to deliver it")
CHALLENGE: Final = Reply(334, None, "")  # its text is the challenge in base64
SEND_CONTENT: Final = Reply(354, None, "send the message, end with <CRLF>.<CRLF>")

# 4yz: our fault, or for now.
SHUTTING_DOWN: Final = Reply(421, "3.2", "the service is stopping, try again soon")
TOO_MANY_CONNECTIONS: Final = Reply(421, "7.0", "too many connections, try again later")
TOO_MANY_FROM_ADDRESS: Final = Reply(421, "7.0", "too many connections from your address, try again later")
BANNED: Final = Reply(421, "7.0", "too many failed logins from your address, try again later")
TOO_SLOW: Final = Reply(421, "4.2", "the message comes in too slowly, closing the connection")
IDLE_TOO_LONG: Final = Reply(421, "4.2", "idle for too long, closing the connection")
BROKEN_OFF: Final = Reply(421, "3.0", "a fault on our side, try again later")
TOO_MANY_ERRORS: Final = Reply(421, "7.0", "too many errors, closing the connection")
LOCAL_ERROR: Final = Reply(451, "3.0", "a fault on our side, try again later")
TLS_NOT_AVAILABLE: Final = Reply(454, "7.0", "TLS is not available, for a fault on our side")
LOGIN_NOT_AVAILABLE: Final = Reply(454, "7.0", "logins cannot be checked, for a fault on our side, try again later")
TOO_MANY_MESSAGES: Final = Reply(452, "5.3", "too many messages, send the others in another session")
TOO_MANY_RECIPIENTS: Final = Reply(452, "5.3", "too many recipients, send the others in another transaction")
MAILBOX_FULL: Final = Reply(452, "2.2", "the mailbox is full, try again later")
INSUFFICIENT_STORAGE: Final = Reply(452, "3.1", "insufficient storage, try again later")

# 5yz: theirs.
UNKNOWN_COMMAND: Final = Reply(500, "5.1", "unknown command")
LINE_TOO_LONG: Final = Reply(500, "5.2", "the line is too long")
BARE_LINE_END: Final = Reply(500, "5.2", "lines end with CRLF, a bare CR or LF is refused")
SYNTAX: Final = Reply(501, "5.4", "syntax")
NOT_IMPLEMENTED: Final = Reply(502, "5.1", "the command is not implemented")
BAD_SEQUENCE: Final = Reply(503, "5.1", "bad sequence of commands")
UNKNOWN_BODY: Final = Reply(501, "5.4", "BODY is 7BIT or 8BITMIME")
NOT_BASE64: Final = Reply(501, "5.2", "expected base64")
NOT_THE_MECHANISM: Final = Reply(501, "5.2", "not what the authentication mechanism expects")
CANCELLED: Final = Reply(501, "7.0", "authentication cancelled")
AUTH_LINE_TOO_LONG: Final = Reply(500, "5.6", "the authentication line is too long")
UNKNOWN_MECHANISM: Final = Reply(504, "5.4", "unknown authentication mechanism")
AUTHENTICATION_REQUIRED: Final = Reply(530, "7.0", "authentication required")
ENCRYPTION_REQUIRED: Final = Reply(530, "7.0", "encryption required, issue STARTTLS first")
ENCRYPTION_NEEDED: Final = Reply(530, "7.10", "REQUIRETLS needs an encrypted connection")
BAD_LOGIN: Final = Reply(535, "7.8", "authentication credentials invalid")
AUTH_NEEDS_ENCRYPTION: Final = Reply(538, "7.11", "encryption required for authentication")
NO_SUCH_MAILBOX: Final = Reply(550, "1.1", "no such mailbox here")
RELAY_DENIED: Final = Reply(550, "7.1", "relaying denied")
MAY_NOT_POST: Final = Reply(550, "7.2", "you may not send to this list")
NOT_YOUR_ADDRESS: Final = Reply(550, "7.1", "you may not send from this address")
EXPIRED: Final = Reply(550, "4.7", "could not be delivered in time")
ALIAS_LOOP: Final = Reply(550, "4.6", "the alias leads back to itself")
DELIVERED_BEFORE: Final = Reply(554, "4.6", "delivered to this address before, the message goes in circles")
TOO_BIG_FOR_MAILBOX: Final = Reply(552, "2.2", "the message can never fit into the mailbox")
MESSAGE_TOO_BIG: Final = Reply(552, "3.4", "the message exceeds the size limit")
NOT_ASCII: Final = Reply(553, "6.7", "an address that is not ASCII needs SMTPUTF8")
BARE_LINE_END_IN_CONTENT: Final = Reply(554, "6.0", "a bare CR or LF in the message is refused")
NUL_IN_CONTENT: Final = Reply(554, "6.0", "a NUL in the message is refused")
LINE_TOO_LONG_IN_CONTENT: Final = Reply(554, "6.0", "a line of the message is too long")
TOO_MANY_HOPS: Final = Reply(554, "4.6", "too many Received lines, the message goes in circles")
UNKNOWN_PARAMETER: Final = Reply(555, "5.4", "unknown parameter")
