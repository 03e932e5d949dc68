"""Mailboxes as the benches want them: filled, and emptied without deleting anything.

ext4 without a journal looks at every inode that was deleted within the last seconds before it takes one for a new file.
Thousands deleted between two samples slow down whoever is measured next: so messages are put aside, on the same
filesystem, and deleted with the instance.
"""

import itertools
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PATIENCE: Final = 60.0  # seconds for all to arrive
_numbers = itertools.count()


def number_in(mailbox: Path) -> int:
    """How many messages; 0 where there is no folder yet."""
    try:
        return len(os.listdir(mailbox))
    except FileNotFoundError:  # some make it with the first message
        return 0


def wait_for(mailbox: Path, number: int, name: str) -> None:
    """Until so many messages are there; raises AssertionError, by the name of who is to deliver them."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        looked = time.monotonic()
        if number_in(mailbox) >= number:
            return
        assert looked < deadline, f"{name}: not all has arrived"
        # To look is work for client and kernel: a tenth of the time at the most.
        time.sleep(max(0.002, 10 * (time.monotonic() - looked)))


def put_aside(mailbox: Path, spent: Path) -> None:
    """Empty a folder of messages into one of its own below `spent`."""
    if number_in(mailbox):
        target = spent / str(next(_numbers))
        target.mkdir(parents=True)
        for name in os.listdir(mailbox):
            (mailbox / name).rename(target / name)


def put_messages(box: Path, contents: Sequence[bytes], spent: Path) -> None:
    """Have a Maildir hold just these messages, LF in each; one that holds as many is as it was left."""
    if number_in(box / "new") + number_in(box / "cur") == len(contents):
        return
    owner = box.parent.stat().st_uid
    for folder in (box, *(box / each for each in ("tmp", "new", "cur"))):
        folder.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(folder, owner)
        if folder != box:
            put_aside(folder, spent)
    for index, octets in enumerate(contents):
        size = f"S={len(octets)},W={len(octets) + octets.count(10)}"
        path = box / "cur" / f"{1_764_000_000 + index}.M{index:06}P7.bench,{size}:2,S"
        path.write_bytes(octets)
        shutil.chown(path, owner)
