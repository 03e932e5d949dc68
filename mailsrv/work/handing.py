"""Handing a message over on a connection: as many transactions as the host needs for the recipients."""

import logging
from collections.abc import Callable, Iterator

from mailsrv.model import outcome
from mailsrv.model.reply import Reply
from mailsrv.protocol.smtp_transaction import Transaction
from mailsrv.store.journal import Journal, Told
from mailsrv.work.job import Errand, Job
from mailsrv.work.line import Line

logger = logging.getLogger(__name__)


def hand_over(line: Line, errand: Errand, pieces: Callable[[], Iterator[bytes]], journal: Journal) -> dict[str, Told]:
    """What becomes of each recipient, by destination; the journal has it first. Raises OSError before the final dot."""
    found: dict[str, Told] = {}
    content = errand.job.content()
    left = list(errand.recipients.items())
    while left:
        batch, left = left[: line.max_recipients], left[line.max_recipients :]
        keys = [key for key, _ in batch]
        transaction = Transaction(errand.job.sender, tuple(each for _, each in batch), content)
        outcomes = line.send(transaction, pieces(), _noter(journal, errand.job, keys))
        told = {key: Told(each, line.where, line.reports) for key, each in zip(keys, outcomes, strict=True)}
        if line.is_open and any(each.code == 250 for each in outcomes):
            # RFC 5321 §4.5.3.1.10: those that were too many go in the next transaction.
            again = [key for key, each in told.items() if _is_too_many(each.reply)]
            left = [(key, each) for key, each in batch if key in again] + left
            told = {key: each for key, each in told.items() if key not in again}
        try:
            journal.told(errand.job.entry_id, told)
        except OSError as error:  # we know it: only where we are killed before it is acted on, it is asked again
            logger.warning("%s: what was heard cannot be written: %s", errand.job.entry_id, error.strerror)
        found |= told
        if not line.is_open:
            lost = Told(outcome.CONNECTION_LOST, line.where)
            return found | {key: lost for key, _ in left}
    return found


def _noter(journal: Journal, job: Job, keys: list[str]) -> Callable[[tuple[int, ...]], None]:
    return lambda accepted: journal.sent(job.entry_id, [keys[index] for index in accepted])


def _is_too_many(answer: Reply) -> bool:
    return answer.code == 452 and answer.subject == "5.3"
