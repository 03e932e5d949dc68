"""What delivery has in hand, and what it may not take into its hand again: a file that has killed it twice.

Such a file goes to `hold/`, with an incident that tells of the deaths and of what was known of each.
"""

import logging
from datetime import UTC, datetime
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.store import incidents
from mailsrv.store.attempts import Attempts
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.spool import Claim, Spool, shown

logger = logging.getLogger(__name__)

SYMPTOM: Final = "the process has died twice with this message in hand"


class Hand:
    """The entry in hand of a program; where the slot cannot be written, it goes on without it."""

    def __init__(self, config: Config, spool: Spool, ledger: Ledger, program: str = "delivery") -> None:
        self._program = program
        self._attempts = Attempts(config.attempt_path(program))
        self._incidents = config.incidents
        self._spool = spool
        self._ledger = ledger

    def recover(self) -> None:
        """Learn with what in hand an earlier process has died."""
        try:
            if found := self._attempts.recover():
                logger.warning("an earlier process has died with %s in hand", found)
        except OSError as error:
            logger.warning("what an earlier process had in hand cannot be told: %s", error.strerror)

    def take(self, entry_id: EntryId) -> str:
        """An entry is about to be opened; the reason to hold it instead, where it is poison."""
        if self._attempts.is_poison(entry_id):
            return self._reason(entry_id)
        try:
            self._attempts.begin(entry_id)
        except OSError as error:
            logger.warning("what is in hand cannot be written: %s", error.strerror)
        return ""

    def empty(self) -> None:
        """Nothing is in hand."""
        try:
            self._attempts.end()
        except OSError as error:
            logger.warning("what is in hand cannot be written: %s", error.strerror)

    def forgive(self, entry_id: EntryId) -> None:
        """It has been decided."""
        try:
            self._attempts.forgive(entry_id)
        except OSError as error:
            logger.warning("the deaths cannot be written: %s", error.strerror)

    def hold_claim(self, claim: Claim, reason: str) -> None:
        """Hold a claimed file; raises OSError."""
        logger.error("%s held as %s: %s", shown(claim.path.name), claim.entry_id, reason)
        facts = {"file": shown(claim.path.name), "why": reason}
        self._ledger.write([line(kind, claim.entry_id, **facts) for kind in (Kind.CLAIMED, Kind.HELD)])
        self._spool.hold_claim(claim, reason)
        self.forgive(claim.entry_id)

    def _reason(self, entry_id: EntryId) -> str:
        deaths = [datetime.fromtimestamp(each, UTC).isoformat() for each in self._attempts.deaths(entry_id)]
        try:
            earlier = [each.name for each in incidents.read_all(self._incidents) if entry_id in str(each.report)]
            report = {"symptom": SYMPTOM, "entry": entry_id, "deaths": deaths, "earlier_incidents": earlier}
            place = str(incidents.keep(self._incidents, self._program, report, ""))
        except OSError as error:
            place = f"none could be kept, {error.strerror}"
        return f"{SYMPTOM}, at {' and '.join(deaths)}; incident: {place}"
