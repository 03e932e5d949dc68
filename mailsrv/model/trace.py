"""Trace lines: Received (RFC 5321 §4.4), Return-Path, Delivered-To (RFC 9228), and the date format of RFC 5322 §3.3.

Addresses beyond ASCII stand in them in UTF-8 (RFC 6532 §3.2).
"""

import functools
from datetime import datetime
from email.utils import format_datetime

from mailsrv.model.address import Mailbox, ReversePath, render_path
from mailsrv.model.envelope import Arrival, Envelope
from mailsrv.model.peer import parse_peer


def received(arrival: Arrival, hostname: str, entry_id: str, envelope: Envelope) -> bytes:
    """The Received field for a message that has just arrived, folded, with its CRLF."""
    lines = []
    if arrival.helo:
        lines.append(f"from {arrival.helo} ({_tcp_info(arrival.peer)})")
    lines.append(f"by {hostname} (mailsrv) with {arrival.protocol} id {entry_id}")
    if arrival.encryption:
        lines.append(f"({arrival.encryption})")
    if len(envelope.recipients) == 1:  # §7.2: more than one would disclose blind copies
        lines.append(f"for {render_path(envelope.recipients[0].forward_path)}")
    return ("Received: " + "\r\n\t".join(lines) + f";\r\n\t{_date_time(arrival.moment)}\r\n").encode()


def _date_time(moment: datetime) -> str:
    """RFC 5322 §3.3, which knows whole seconds."""
    return _formatted(moment.replace(microsecond=0))


@functools.lru_cache(maxsize=16)
def _formatted(moment: datetime) -> str:
    return format_datetime(moment)


@functools.lru_cache(maxsize=256)
def _tcp_info(peer: str) -> str:
    """An address literal, or what stands for the other end of a unix socket."""
    address = parse_peer(peer)
    if address is None:
        return peer
    return f"[{'IPv6:' if address.version == 6 else ''}{address}]"


def return_path(reverse_path: ReversePath) -> bytes:
    """The Return-Path field, added once, at final delivery."""
    return f"Return-Path: {render_path(reverse_path)}\r\n".encode()


def delivered_to(mailbox: Mailbox) -> bytes:
    """The Delivered-To field: the mailbox a message was delivered to."""
    return f"Delivered-To: {mailbox}\r\n".encode()


def list_id(mailbox: Mailbox) -> bytes:
    """The List-Id field (RFC 2919 §2) of the distribution list at `mailbox`, which is in ASCII."""
    return f"List-Id: <{mailbox.key.replace('@', '.')}>\r\n".encode()


def date(moment: datetime) -> bytes:
    """The Date field."""
    return f"Date: {_date_time(moment)}\r\n".encode()


def message_id(entry_id: str, hostname: str) -> bytes:
    """The Message-ID field for a message that came without one."""
    return f"Message-ID: <{entry_id}@{hostname}>\r\n".encode()
