"""A letter to postmaster about a program that does not recover, put into the spool as a file: it needs no `smtp`."""

import secrets
from typing import Final

from mailsrv.config import Config
from mailsrv.model.address import Mailbox
from mailsrv.store.durable import write_file
from mailsrv.work.symptoms import Symptom, rule_of

TEXT: Final = """\
X-Sender: <>
X-Receiver: <{postmaster}>
X-EndOfInjectedXHeaders: 0
From: "mailsrv on {hostname}" <{postmaster}>
To: {postmaster}
Subject: {program}: {symptom}
Auto-Submitted: auto-generated

The program {program} of mailsrv on {hostname} does not recover by itself.

    symptom   {symptom}
    measured  {measured}
    done      {action}
    incident  {incident}

It has come back after it was healed, or there is nothing more that can be done about it here. mailsrv goes on trying,
on a slow clock. You are told of this once, and again only after an hour without it.

    mailsrv status
    mailsrv incidents list
    mailsrv incidents show {name}
"""


def drop(config: Config, program: str, symptom: Symptom, incident: str) -> None:
    """Write it; raises OSError."""
    rule = rule_of(symptom)
    text = TEXT.format(
        postmaster=Mailbox("postmaster", config.domains[0]),
        hostname=config.hostname,
        program=program,
        symptom=symptom.value,
        measured=rule.measured.format(f"{rule.bound(config.health):g} {rule.unit}".strip()),
        action=rule.action.value,
        incident=incident or "see the list",
        name=incident.rpartition("/")[2] or "NAME",
    )
    write_file(config.spool / f"health-{secrets.token_hex(8)}.eml", text.encode("utf-8"))
