"""Maildir, delivery's side: tmp, then new (cr.yp.to/proto/maildir.html), with names derived from the entry.

A name is `SECONDS.ENTRYID.mailsrv,S=octets,W=octets-with-CRLF`: the same entry always gives the same name, so a
repeated delivery finds its own work. Lines end in LF on disk.
"""

import functools
import os
from pathlib import Path
from typing import Final

from mailsrv.model.address import Mailbox
from mailsrv.model.identity import EntryId, arrival_of
from mailsrv.model.international import domain_key, local_part_key
from mailsrv.store.durable import Draft, Move

FOLDERS: Final = ("tmp", "new", "cur")


@functools.lru_cache(maxsize=256)
def unique_name(entry_id: EntryId) -> str:
    """The part of the file name that identifies the message for ever; it is its UIDL too."""
    return f"{int(arrival_of(entry_id).timestamp())}.{entry_id}.mailsrv"


@functools.lru_cache(maxsize=4096)
def mailbox_path(mail: Path, mailbox: Mailbox) -> Path:
    """Where the mailbox of an account lies, below `var/mail`: in one folder, however its address is spelled."""
    return mail / domain_key(mailbox.domain) / local_part_key(mailbox.local_part)


class Maildir:
    """One mailbox on disk, `var/mail/DOMAIN/USER`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tmp, self._new, _ = self._folders = tuple(path / name for name in FOLDERS)
        self._names = [os.fspath(folder) for folder in self._folders]

    def create(self) -> None:
        """Make what is missing; raises OSError."""
        for folder, name in zip(self._folders, self._names, strict=True):
            if not os.path.isdir(name):  # noqa: PTH112 - asked for with every letter
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def draft(self, entry_id: EntryId) -> Draft:
        """A draft of the message in `tmp/`; an earlier one of the same entry is overwritten."""
        return Draft(self._tmp / unique_name(entry_id))

    def move_of(self, entry_id: EntryId, octets: int, lines: int) -> Move:
        """The rename that delivers: `octets` as on disk, `lines` the number of line ends among them."""
        name = unique_name(entry_id)
        return Move(self._tmp / name, self._new / f"{name},S={octets},W={octets + lines}")

    def uniques(self) -> frozenset[str]:
        """The unique parts of all names in the mailbox; raises OSError."""
        return frozenset(unique_part(name) for folder in ("new", "cur") for name in os.listdir(self.path / folder))


def unique_part(name: str) -> str:
    """The part of a Maildir name that stays when flags are set or the file moves to `cur/`."""
    return name.partition(":")[0].partition(",")[0]
