"""Tracing: the whole life of a message by the books, from the socket to the download, and where it is now.

Reports and other entries that were made of a message have its id, with a word behind it, and are a part of its life.
"""

import contextlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any, Final

from mailsrv.config import Config
from mailsrv.model.address import GrammarError, parse_mailbox
from mailsrv.model.identity import EntryId, is_entry_id
from mailsrv.store.entry import FormatError
from mailsrv.store.ledger import Kind, Line, Reader
from mailsrv.store.maildir import Maildir, mailbox_path, unique_name
from mailsrv.store.retry import read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import books

ID_LENGTH: Final = 20
MAX_HEADER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Life:
    """One message: its lines in order of time, and where it is now, in words."""

    entry_id: str
    sender: str
    subject: str
    message_id: str
    lines: tuple[Line, ...]
    now: tuple[str, ...]


def trace(config: Config, what: str) -> list[Life]:
    """The messages that `what` names: an id or its beginning, a Message-ID, an address, a part of the subject.

    An address is looked for in no subject. Reads, and changes nothing; raises OSError.
    """
    wanted = _comparable(what)
    undecided = _undecided(Spool(config.spool))
    roots = {line["id"][:ID_LENGTH] for line in Reader(config.books).read() if _is_meant(line, wanted)}
    roots |= {line["id"][:ID_LENGTH] for line in undecided if _is_meant(line, wanted)}
    found: dict[str, list[Line]] = {root: [] for root in sorted(roots)}
    for line in Reader(config.books).read():
        if (root := line["id"][:ID_LENGTH]) in found:
            found[root].append(line)
    known = {line["id"]: line for line in undecided}
    return [_life(config, root, lines, known.get(root, {})) for root, lines in found.items()]


def decoded(subject: str) -> str:
    """A subject as people read it (RFC 2047)."""
    if "=?" not in subject:
        return subject
    try:
        return str(make_header(decode_header(subject))) or subject
    except (HeaderParseError, LookupError, ValueError):
        return subject


def _comparable(text: str) -> str:
    """The same for all ways to write a subject: in any case, in any form of Unicode, with any spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_address(text: str) -> bool:
    try:
        return bool(parse_mailbox(text))
    except GrammarError:
        return False


def _is_meant(line: Mapping[str, Any], wanted: str) -> bool:
    if line["id"].startswith(wanted):
        return True
    message_id = _comparable(line.get("message_id", ""))
    if wanted in (message_id, message_id.strip("<>")):
        return True
    if "@" not in wanted or not _is_address(wanted):
        return wanted in _comparable(decoded(line.get("subject", "")))
    # A destination that nobody has is told with what it is: `report LIST ADDRESS`.
    addresses = [line.get("from", ""), *line.get("to", ()), *line.get("routes", ())]
    return any(wanted == word for address in addresses for word in (_comparable(address), *address.lower().split()))


def _undecided(spool: Spool) -> list[Line]:
    """What the books cannot yet tell of entries in `new/`: what stands in their headers."""
    found: list[Line] = []
    for entry_id in spool.entries(State.NEW):
        with contextlib.suppress(OSError, FormatError):  # decided while we look, or to be held soon
            file, _ = spool.open(State.NEW, entry_id)
            with file:
                found.append({"id": entry_id, **books.about(file.read(MAX_HEADER).partition(b"\r\n\r\n")[0])})
    return found


def _life(config: Config, root: str, lines: list[Line], known: Mapping[str, Any]) -> Life:
    ordered = tuple(sorted(lines, key=lambda line: (line["t"], line["fate"] != Kind.ACCEPTED)))
    facts = [line for line in (*ordered, known) if line and line["id"] == root]
    facts += [line for line in ordered if line.get("of") == root and "subject" in line]  # it is only sent on

    def first(name: str) -> str:
        return next((str(line[name]) for line in facts if line.get(name)), "")

    now = tuple(_now(config, dict.fromkeys([root, *(line["id"] for line in ordered)]), ordered))
    return Life(root, first("from"), decoded(first("subject")), first("message_id"), ordered, now)


def _now(config: Config, entry_ids: Iterable[str], lines: tuple[Line, ...]) -> Iterator[str]:
    spool = Spool(config.spool)
    for entry_id in (EntryId(each) for each in entry_ids if is_entry_id(each)):
        state = spool.state_of(entry_id)
        if state is None:
            continue
        where = f"{entry_id}: in {state.value}/"
        if state.has_sidecar and (retry := read_retry(spool.retry_path(entry_id, state))):
            where += "".join(f"; {key}: {fate.error}" for key, fate in retry.waiting().items())
        if state is State.HOLD:
            where += f"; {spool.reason(entry_id)}"
        yield where
    delivered = {
        (line["id"], to): None for line in lines if line["fate"] == Kind.DELIVERED for to in line.get("to", ())
    }
    for entry_id, to in delivered:
        is_there = _is_in_mailbox(config, EntryId(entry_id), to)
        yield f"{entry_id}: {'in' if is_there else 'no longer in'} the mailbox of {to}"


def _is_in_mailbox(config: Config, entry_id: EntryId, address: str) -> bool:
    try:
        box = Maildir(mailbox_path(config.mail, parse_mailbox(address)))
        return is_entry_id(entry_id) and unique_name(entry_id) in box.uniques()
    except (GrammarError, FileNotFoundError, NotADirectoryError):
        return False
