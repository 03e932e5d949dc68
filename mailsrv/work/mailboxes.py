"""The part of a plan that is mailboxes here: content is written once a message, further mailboxes get a hard link."""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailsrv.model.address import Mailbox
from mailsrv.store import maildir
from mailsrv.store.batch import Step
from mailsrv.store.durable import Draft, copy_name
from mailsrv.store.ledger import Kind
from mailsrv.store.maildir import Maildir
from mailsrv.work.attempt import Attempt, Written
from mailsrv.work.octets import unparted


@dataclass(frozen=True, slots=True)
class _Letter:
    """A letter that was written: what hangs on it, and its sizes."""

    written: Written
    octets: int
    lines: int


class Mailboxes:
    """The mailboxes below `mail`; the folders of each are looked for once a batch."""

    def __init__(self, mail: Path) -> None:
        self._mail = mail
        self._opened: set[Mailbox] = set()  # in this batch

    def settle(self) -> None:
        """The batch is carried out."""
        self._opened.clear()

    def plan(self, attempt: Attempt, mailboxes: Sequence[Mailbox], prefix: bytes) -> tuple[int, list[Mailbox]]:
        """Plan one letter, `prefix` and the message, to these accounts.

        Gives the octets of the letter, and who is to get it now: the others have it, or wait.
        """
        letters: list[_Letter] = []  # on each filesystem one, until it can have no more names
        planned: list[Mailbox] = []
        for mailbox in mailboxes:
            key = mailbox.key
            try:
                box = self._open(mailbox)
                if attempt.is_suspect and maildir.unique_name(attempt.entry_id) in box.uniques():
                    attempt.serve([key], Kind.DELIVERED)
                    continue
                if not any(_link(attempt, letter, box, key) for letter in reversed(letters)):
                    letters.append(_write(attempt, box, key, prefix))
                planned.append(mailbox)
            except OSError as error:
                attempt.wait_for([key], error)
        return letters[0].octets if letters else 0, planned

    def _open(self, mailbox: Mailbox) -> Maildir:
        box = _maildir(self._mail, mailbox)
        if mailbox not in self._opened:
            box.create()
            self._opened.add(mailbox)
        return box


@functools.lru_cache(maxsize=1024)
def _maildir(mail: Path, mailbox: Mailbox) -> Maildir:
    """Paths cost more than the calls that they are for."""
    return Maildir(maildir.mailbox_path(mail, mailbox))


def _write(attempt: Attempt, box: Maildir, key: str, prefix: bytes) -> _Letter:
    draft = box.draft(attempt.entry_id)
    try:
        lines = _write_with_lf(draft, prefix, attempt.pieces())
        draft.flush()
    except BaseException:
        draft.abort()
        raise
    move = box.move_of(attempt.entry_id, draft.size, lines)
    written = Written(draft, [Step(move, (key,))])
    attempt.written.append(written)
    return _Letter(written, draft.size, lines)


def _link(attempt: Attempt, first: _Letter, box: Maildir, key: str) -> bool:
    move = box.move_of(attempt.entry_id, first.octets, first.lines)
    if not copy_name(first.written.draft.path, move.draft):
        return False
    first.written.steps.append(Step(move, (key,)))
    return True


def _with_lf(block: bytes) -> tuple[bytes, int]:
    """With LF for CRLF, and the number of line ends.

    In an entry no LF stands alone, unless a person has edited it. To look for one takes less than to count all.
    """
    octets = block.replace(b"\r\n", b"\n")
    ends = len(block) - len(octets)
    if b"\n" in block.replace(b"\r\n", b""):
        ends = octets.count(b"\n")
    return octets, ends


def _write_with_lf(draft: Draft, prefix: bytes, pieces: Iterable[bytes]) -> int:
    """Write with LF for CRLF; gives the number of lines."""
    lines = 0
    for block in unparted(itertools.chain([prefix], pieces)):
        octets, ends = _with_lf(block)
        lines += ends
        draft.write(octets)
    return lines
