"""What an operator does with entries of the spool: retry, hold, release, remove; while everything runs.

An entry is moved in turns with delivery (`store.turns`), by its user, and the ledger is told first.
"""

import contextlib
import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from mailsrv.config import Config
from mailsrv.model.identity import EntryId
from mailsrv.store.batch import read_batch
from mailsrv.store.entry import FormatError
from mailsrv.store.journal import read_journal
from mailsrv.store.ledger import Kind, Ledger, line
from mailsrv.store.retry import read_retry, write_retry
from mailsrv.store.spool import Spool, State
from mailsrv.store.turns import Turns
from mailsrv.work.instance import acting_as

PATIENCE: Final = 30.0  # seconds
RELAY: Final = "relay"  # whose drafts, batch and journal are its own


class NotPossibleError(Exception):
    """It cannot be done with this entry now; the text says why, and what can be."""


class Operator:
    """An operator of the instance, who has entered it; every method raises NotPossibleError, OSError."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._spool = Spool(config.spool)
        self._relay_spool = Spool(config.spool, RELAY)
        self._turns = Turns(config.turns)
        self._relay_turns = Turns(config.relay_turns)
        self._who = _name_of_user()

    def retry(self, entry_id: EntryId) -> None:
        """Have an entry that waits be tried at once; the attempts go on counting."""
        with self._turn():
            self._try_now(entry_id, self._expect(entry_id, State.DEFERRED, State.REMOTE))

    def hold(self, entry_id: EntryId, why: str = "") -> None:
        """Move an entry to `hold/`, with the reason beside it."""
        with self._turn() as ledger:
            state = self._expect(entry_id, State.NEW, State.DEFERRED, State.REMOTE)
            reason = f"held by {self._who}" + (f": {why}" if why else "")
            ledger.write([line(Kind.HELD, entry_id, why=reason)])
            self._spool.hold(state, entry_id, reason)

    def release(self, entry_id: EntryId) -> str:
        """Have a held entry be decided; says where it is now. A file that is no entry goes into the drop box anew."""
        with self._turn() as ledger:
            self._expect(entry_id, State.HOLD)
            if self._is_entry(entry_id):
                ledger.write([line(Kind.RELEASED, entry_id, who=self._who)])
                state = self._spool.release(entry_id)
                self._try_now(entry_id, state)
                return f"{state.value}/"
            ledger.write([line(Kind.RELEASED, entry_id, who=self._who, file=f"{entry_id}.eml")])
            return str(self._spool.drop_again(entry_id))

    def remove(self, entry_id: EntryId) -> None:
        """Remove an entry for good; nobody is told, but the ledger."""
        with self._turn() as ledger:
            state = self._expect(entry_id, *State)
            facts: dict[str, object] = {"was": state.value, "who": self._who}
            with contextlib.suppress(FormatError):
                file, block = self._spool.open(state, entry_id)
                file.close()
                facts["from"] = str(block.envelope.sender.reverse_path or "")
                facts["recipients"] = [str(each.forward_path) for each in block.envelope.recipients]
            ledger.write([line(Kind.REMOVED, entry_id, **facts)])
            self._spool.remove(state, entry_id)

    def write_off(self, entry_id: EntryId) -> None:
        """Close the books on an entry that an audit has named: somebody has looked into it."""
        with self._turn() as ledger:
            if state := self._spool.state_of(entry_id):
                raise NotPossibleError(f"{entry_id} is in {state.value}/; {_OTHERWISE[state]}")
            ledger.write([line(Kind.REMOVED, entry_id, was="written off", who=self._who)])

    def _try_now(self, entry_id: EntryId, state: State) -> None:
        path = self._spool.retry_path(entry_id, state)
        if retry := read_retry(path):
            write_retry(path, replace(retry, due=time.time()))
        (self._relay_spool if state is State.REMOTE else self._spool).ask_again([entry_id])

    @contextlib.contextmanager
    def _turn(self) -> Iterator[Ledger]:
        """Within, no entry is moved by anybody else; the ledger is there to be told."""
        with acting_as(self._config):
            ledger = Ledger(self._config.books, "command", self._config.ledger.keep_days)
            try:
                with self._turns.taken(PATIENCE), self._relay_turns.taken(PATIENCE):
                    yield ledger
                if ledger.problem:
                    raise NotPossibleError(f"it was done, but {ledger.problem}")
            except TimeoutError as error:
                raise NotPossibleError(
                    f"delivery, or the relay, has the spool in hand for more than {PATIENCE:.0f} s"
                ) from error
            finally:
                ledger.close()
                self._turns.close()
                self._relay_turns.close()

    def _expect(self, entry_id: EntryId, *states: State) -> State:
        """Where the entry is, if it is in one of these states and nobody is in the middle of it."""
        state = self._spool.state_of(entry_id)
        if state is None:
            raise NotPossibleError(f"there is no entry {entry_id} in the spool; `mailsrv queue list` lists them")
        if state not in states:
            raise NotPossibleError(f"{entry_id} is in {state.value}/; {_OTHERWISE[state]}")
        for spool in (self._spool, self._relay_spool):
            if any(plan.entry_id == entry_id for plan in read_batch(spool.batch) or ()):
                raise NotPossibleError(f"{entry_id} is half delivered; it can be moved once that is finished")
        if entry_id in read_journal(self._relay_spool.journal):
            raise NotPossibleError(f"{entry_id} is being sent; it can be moved once that has succeeded or failed")
        return state

    def _is_entry(self, entry_id: EntryId) -> bool:
        try:
            file, block = self._spool.open(State.HOLD, entry_id)
            file.close()
        except FormatError:
            return False
        return block.arrival is not None  # else it is a dropped file, which the drop box understands


_OTHERWISE = {
    State.NEW: "it is about to be decided",
    State.DEFERRED: "`mailsrv queue retry` has it tried at once",
    State.REMOTE: "`mailsrv queue retry` has it tried at once",
    State.HOLD: "`mailsrv queue release` has it decided",
}


def _name_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
