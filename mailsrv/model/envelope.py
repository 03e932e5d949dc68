"""The envelope of a message (RFC 5321 §2.3.1) and how it arrived."""

from dataclasses import dataclass
from datetime import datetime

from mailsrv.model.address import Mailbox, ReversePath
from mailsrv.model.parameters import NONE, Parameters


@dataclass(frozen=True, slots=True)
class Sender:
    """What MAIL said."""

    reverse_path: ReversePath
    parameters: Parameters = NONE


@dataclass(frozen=True, slots=True)
class Recipient:
    """What one RCPT said."""

    forward_path: Mailbox
    parameters: Parameters = NONE


@dataclass(frozen=True, slots=True)
class Envelope:
    """One sender and at least one recipient."""

    sender: Sender
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class Arrival:
    """When and how a message came to us.

    `moment` is aware and in UTC; `protocol` is a name of RFC 3848 or one of ours (`drop`, `report`, `send`);
    `helo` is what the client called itself, `peer` its address, both empty where there was no client.
    """

    moment: datetime
    protocol: str
    helo: str = ""
    peer: str = ""
