"""What a client is to hand over in one transaction, what it takes of the server, and the commands that say it."""

from dataclasses import dataclass

from mailsrv.model import outcome
from mailsrv.model.address import render_path
from mailsrv.model.envelope import SMTPUTF8, Recipient, Sender
from mailsrv.model.parameters import render_parameters
from mailsrv.model.reply import Reply
from mailsrv.protocol.smtp_answers import Offered

_DSN_OF_MAIL = ("RET", "ENVID")
_DSN_OF_RCPT = ("NOTIFY", "ORCPT")


@dataclass(frozen=True, slots=True)
class Content:
    """What counts of a message: its octets, and whether all of them, and those of its header, are ASCII."""

    octets: int
    is_ascii: bool
    has_ascii_header: bool


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message for recipients that one host is to take."""

    sender: Sender
    recipients: tuple[Recipient, ...]
    content: Content

    def unfit(self, recipient: Recipient, offered: Offered, *, is_trusted: bool) -> Reply | None:
        """Why the server can never take it for this recipient; `is_trusted` is TLS with a certificate that is good."""
        if 0 < offered.max_octets < self.content.octets:  # RFC 1870 §6.1
            return outcome.TOO_BIG_THERE
        if SMTPUTF8 not in offered:
            if not recipient.forward_path.is_ascii or not self._has_ascii_sender:
                return outcome.NO_UTF8_THERE
            if self._has_international_header:
                return outcome.NO_UTF8_HEADER_THERE
        if not self.content.is_ascii and "8BITMIME" not in offered:  # RFC 6152 §3
            return outcome.NO_8BIT_THERE
        if self._asks_for("REQUIRETLS") and not ("REQUIRETLS" in offered and is_trusted):  # RFC 8689 §4.2
            return outcome.NO_REQUIRETLS_THERE
        return None

    def mail_command(self, offered: Offered, recipients: tuple[Recipient, ...]) -> str:
        """MAIL, with the parameters that the server knows."""
        parameters: list[tuple[str, str | None]] = []
        if "SIZE" in offered:
            parameters.append(("SIZE", str(self.content.octets)))
        if not self.content.is_ascii:
            parameters.append(("BODY", "8BITMIME"))
        is_ascii = self._has_ascii_sender and all(each.forward_path.is_ascii for each in recipients)
        if not is_ascii or self._has_international_header:  # RFC 6531 §3.2: only where it is needed
            parameters.append((SMTPUTF8, None))
        if "DSN" in offered:  # RFC 3461 §5.2.1
            parameters += [each for each in self.sender.parameters if each[0] in _DSN_OF_MAIL]
        if self._asks_for("REQUIRETLS"):
            parameters.append(("REQUIRETLS", None))
        return f"MAIL FROM:{render_path(self.sender.reverse_path)}{render_parameters(tuple(parameters))}"

    def rcpt_command(self, recipient: Recipient, offered: Offered) -> str:
        """RCPT, likewise."""
        parameters = [each for each in recipient.parameters if each[0] in _DSN_OF_RCPT] if "DSN" in offered else []
        return f"RCPT TO:{render_path(recipient.forward_path)}{render_parameters(tuple(parameters))}"

    @property
    def _has_ascii_sender(self) -> bool:
        return self.sender.reverse_path is None or self.sender.reverse_path.is_ascii

    @property
    def _has_international_header(self) -> bool:
        """A header beyond ASCII from a client that never said SMTPUTF8 is 8-bit content, as it always was."""
        return not self.content.has_ascii_header and self.sender.says_smtputf8

    def _asks_for(self, keyword: str) -> bool:
        return any(each == keyword for each, _ in self.sender.parameters)
