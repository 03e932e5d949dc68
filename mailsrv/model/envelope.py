"""The envelope of a message (RFC 5321 §2.3.1) and how it arrived."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from mailsrv.model.address import Mailbox, ReversePath, render_path
from mailsrv.model.parameters import NONE, Parameters, render_parameters

SMTPUTF8: Final = "SMTPUTF8"  # RFC 6531 §3.4, the keyword of MAIL


@dataclass(frozen=True, slots=True)
class Sender:
    """What MAIL said."""

    reverse_path: ReversePath
    parameters: Parameters = NONE

    @property
    def says_smtputf8(self) -> bool:
        """Whether the message may need SMTPUTF8 on its way on, and its sender can take it."""
        return any(keyword == SMTPUTF8 for keyword, _ in self.parameters)


@dataclass(frozen=True, slots=True)
class Recipient:
    """What one RCPT said."""

    forward_path: Mailbox
    parameters: Parameters = NONE

    @property
    def octets(self) -> int:
        """What it takes of an envelope as that is written, which may be more than RCPT took on the wire."""
        return len(f"{render_path(self.forward_path)}{render_parameters(self.parameters)}".encode())


@dataclass(frozen=True, slots=True)
class Envelope:
    """One sender and at least one recipient."""

    sender: Sender
    recipients: tuple[Recipient, ...]

    @property
    def is_ascii(self) -> bool:
        """Whether all addresses can be used without SMTPUTF8."""
        reverse_path = self.sender.reverse_path
        return (reverse_path is None or reverse_path.is_ascii) and all(
            recipient.forward_path.is_ascii for recipient in self.recipients
        )

    def saying_smtputf8(self) -> "Envelope":
        """The same envelope, its sender saying SMTPUTF8."""
        if self.sender.says_smtputf8:
            return self
        parameters = (*self.sender.parameters, (SMTPUTF8, None))
        return replace(self, sender=replace(self.sender, parameters=parameters))


# Of `protocol`, what was made or put here without a login. The first two are files.
_OURS: Final = frozenset({"drop", "send", "report", "report-to-postmaster", "answer", "warning"})


@dataclass(frozen=True, slots=True)
class Arrival:
    """When and how a message came to us.

    `moment` is aware and in UTC; `protocol` is a name of RFC 3848 or one of ours (`drop`, `report`, `send`);
    `helo` is what the client called itself, `peer` its address, both empty where there was no client; `encryption`
    is version and cipher of TLS, `identity` the account that had logged in, each empty where there was none.
    """

    moment: datetime
    protocol: str
    helo: str = ""
    peer: str = ""
    encryption: str = ""
    identity: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether the message began here: somebody logged in, or it was made or put here."""
        return bool(self.identity) or self.protocol in _OURS
