"""An instance in a folder of the test: made, given mail, looked at, and worked on as the program `delivery` does it."""

import contextlib
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.model.address import parse_mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import EntryId, new_entry_id
from mailsrv.settings import Delivery, Pop3
from mailsrv.store import entry
from mailsrv.store.entry import FormatError
from mailsrv.store.ledger import Kind, Ledger
from mailsrv.store.maildir import mailbox_path
from mailsrv.store.maildrop import LOCK_NAME, Maildrop
from mailsrv.store.spool import Spool, State
from mailsrv.work.books import arrived
from mailsrv.work.decide import Decider
from mailsrv.work.pickup import Pickup
from mailsrv.work.routing import Directory

DOMAIN: Final = "example.org"
PEOPLE: Final = ("alice", "bob", "carol")
CONTENT: Final = b"Received: from a test\r\nSubject: hello\r\n\r\nHello.\r\n.\r\n..\r\nBye.\r\n"
AT_ONCE: Final = Delivery(retry_after=(0.0,), settle_seconds=0.05)  # what was deferred is due again at once
OVERWRITTEN: Final = (
    ".batch.json.tmp",
    ".worst_wait.tmp",
    ".mailsrv.usage.tmp",
)  # drafts of what is but remembered: the next one takes its place
TURNS: Final = 3  # an entry may lead to a report, that to one to postmaster, and that to nothing more


def config_of(root: Path, delivery: Delivery = AT_ONCE, pop3: Pop3 | None = None) -> Config:
    """The configuration of the instance at `root`."""
    return Config(root, domains=(DOMAIN,), hostname="mail.example.org", delivery=delivery, pop3=pop3 or Pop3())


def make(root: Path, aliases: str = "", lists: str = "", transforms: str = "") -> Config:
    """A new instance in which PEOPLE have accounts."""
    config = config_of(root)
    Spool(config.spool).create_folders()
    config.accounts.write_text("".join(f"{name}@{DOMAIN} $argon2id$none\n" for name in PEOPLE), "utf-8")
    config.aliases.write_text(aliases, "utf-8")
    for path, text in ((config.lists, lists), (config.transforms, transforms)):
        if text:
            path.write_text(text, "utf-8")
    return config


def envelope_of(sender: str, recipients: Sequence[str]) -> Envelope:
    """An envelope; an empty sender is the null reverse-path."""
    reverse_path = parse_mailbox(sender) if sender else None
    return Envelope(Sender(reverse_path), tuple(Recipient(parse_mailbox(each)) for each in recipients))


def accept(
    config: Config, *recipients: str, sender: str = "alice@example.org", content: bytes = CONTENT, block: bytes = b""
) -> EntryId:
    """Put an entry into `new/`, as `smtp` does it; with `block` for an envelope of the test's own."""
    now = datetime.now(UTC)
    entry_id = new_entry_id(now)
    block = block or entry.render(envelope_of(sender, recipients), Arrival(now, "ESMTP"), entry_id)
    draft = Spool(config.spool).tmp / f"{entry_id}.{os.getpid()}"
    draft.write_bytes(block + content)
    draft.rename(Spool(config.spool).path(State.NEW, entry_id))
    books = Ledger(config.books, "smtp", config.ledger.keep_days)
    with contextlib.suppress(FormatError):  # such a file is one of the test's own making
        if read := entry.read_block(io.BytesIO(block)):
            books.write([arrived(Kind.ACCEPTED, entry_id, read.envelope, len(content))])
    books.close()
    return entry_id


def drop(config: Config, name: str, octets: bytes) -> Path:
    """Put a whole file into the drop box, by moving it in."""
    draft = config.var / f"{name}.being-made"
    draft.write_bytes(octets)
    return draft.rename(config.spool / name)


def ledger_of(config: Config) -> Ledger:
    """The ledger, as delivery writes it."""
    return Ledger(config.books, "delivery", config.ledger.keep_days)


def deliver(config: Config) -> Decider:
    """What `delivery` does from its start until nothing is left that can be done now."""
    spool = Spool(config.spool)
    spool.create_folders()
    ledger = ledger_of(config)
    decider = Decider(config, spool, Directory(config), ledger, lambda _in_hand: None)
    pickup = Pickup(config, spool, ledger, decider.hand)
    decider.recover()
    spool.sweep_drafts()
    pickup.recover()
    for _ in range(TURNS):
        pickup.scan(frozenset(each.name for each in spool.dropped()))
        decider.decide()
    return decider


def letters(config: Config, name: str) -> list[bytes]:
    """What lies in the mailbox of `name`, in order of arrival."""
    box = maildir_of(config, name)
    paths = [path for folder in ("new", "cur") for path in (box / folder).glob("*")]
    return [path.read_bytes() for path in sorted(paths, key=lambda path: path.name)]


def maildir_of(config: Config, name: str) -> Path:
    """The mailbox of `name`."""
    return mailbox_path(config.mail, parse_mailbox(f"{name}@{DOMAIN}"))


def break_mailbox(config: Config, name: str) -> Path:
    """Put a plain file where the mailbox should be: a fault of ours that only a person can remove."""
    box = maildir_of(config, name)
    box.parent.mkdir(parents=True, exist_ok=True)
    box.write_text("in the way")
    return box


def fetch_and_delete(config: Config, name: str) -> list[bytes]:
    """What a POP3 client does: fetch everything, then delete it (here without waiting for the disk)."""
    box = maildir_of(config, name)
    if not all((box / folder).is_dir() for folder in ("tmp", "new", "cur")):
        return []
    maildrop = Maildrop(box)
    found = []
    for index in range(len(maildrop.listing.octets)):
        with maildrop.open(index) as file:
            found.append(file.read())
        maildrop.listing.path(index).unlink()
    maildrop.close()
    return found


def unfinished(config: Config) -> list[str]:
    """What should never be left when all work is done: drafts, claims, entries not decided, files not taken in."""
    spool = Spool(config.spool)
    found = [
        *(path for path in spool.tmp.iterdir() if path.name not in OVERWRITTEN),
        *spool.folder(State.NEW).iterdir(),
        *spool.dropped(),
    ]
    found += [path for path in config.mail.glob("*/*/tmp/*") if path.name != LOCK_NAME]
    # An incident that was cut off is not among those that are shown.
    half_written = (path for path in config.var.rglob(".*.tmp") if config.incidents not in path.parents)
    found += [path for path in half_written if path not in found and path.name not in OVERWRITTEN]
    return sorted(str(path.relative_to(config.var)) for path in found)


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
