"""The spool: folder = state, rename = transition. No other module builds a spool path.

state       where the file is        who may move it             what recovery does
----------  -----------------------  --------------------------  ------------------------------------------------
dropped     NAME                     delivery: claims it         nothing: it waits, whole or not yet whole
drafted     tmp/ID.PID               its writer: publishes it    delivery removes it, after the batch, once process PID
                                                                 is gone: it was never acknowledged
claimed     tmp/ID.claim/NAME        delivery: takes it in       new/ID is there: the claim is finished and removed;
                                                                 else it is taken in again, under the same ID
accepted    new/ID                   delivery: decides it        decided, as at any other time
batched     new/ID, tmp/batch.json   delivery: carries it out    the batch is carried through to its end
deferred    deferred/ID, ID.retry    delivery: when it is due    decided when due; without a sidecar, at once
remote      remote/ID, ID.retry      relay: when it is due       sent when due; without a sidecar, at once
held        hold/ID, ID.txt          a person, in turns with     waits for a person; ID.retry goes with it where it
                                     delivery (store/turns.py)   was deferred before, ID.remote where it was remote
bad         bad/NAME, NAME.txt       a person                    waits for a person

The relay has drafts, a batch and a journal of its own, in tmp/relay/: what one of the two has left behind is not swept
away by the other, which might need it to finish its batch.

The file of an entry that was decided may wait in spare/ to be used again (store/spares.py): it is no mail any more.

The reason or sidecar is published before the move that needs it, so a crash between the two leaves a sidecar without
an entry (harmless, overwritten by the next one) and never an entry without its sidecar.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from mailsrv.model.identity import EntryId, is_entry_id
from mailsrv.store import durable
from mailsrv.store.durable import Draft
from mailsrv.store.entry import Block, FormatError, read_block
from mailsrv.store.spares import Spares, Stock

READ_AHEAD: Final = 16 * 1024  # octets; more than most messages have
MAX_BAD_NAME: Final = 240  # octets of a name that leave room for `.txt` and the draft of it
_CLAIM: Final = ".claim"
_LEFT_ALONE: Final = (".tmp", ".part", ".swp", "~")


class State(Enum):
    """Where an entry stands, by the name of its folder."""

    NEW = "new"
    DEFERRED = "deferred"
    REMOTE = "remote"
    HOLD = "hold"

    @property
    def waits_in(self) -> "State":
        """Where an entry of this state waits for its next attempt."""
        return State.DEFERRED if self is State.NEW else self

    @property
    def has_sidecar(self) -> bool:
        """Whether entries of this state may have been tried already."""
        return self in (State.DEFERRED, State.REMOTE)


@dataclass(frozen=True, slots=True)
class Claim:
    """A dropped file that is ours now: still under its own name, in a folder named for the entry it becomes."""

    entry_id: EntryId
    path: Path


class Spool:
    """The folders below `root` (`var/spool`); `part` names the drafts of a program that has a folder for them."""

    def __init__(self, root: Path, part: str = "") -> None:
        self.root = root
        self.tmp = root / "tmp"
        self.bad = root / "bad"
        self.drafts = self.tmp / part if part else self.tmp
        self.batch = self.drafts / "batch.json"
        self.journal = self.drafts / "journal"
        self.spares = Spares(root / "spare")
        self._folders = {state: root / state.value for state in State}
        self._again = root / (f".again-{part}" if part else ".again")

    def create_folders(self) -> None:
        """Make what is missing; raises OSError."""
        for folder in (self.root, self.tmp, self.drafts, self.spares.folder, self.bad, *self._folders.values()):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, state: State) -> Path:
        """The folder of a state."""
        return self._folders[state]

    # --- entries -----------------------------------------------------------------------------------

    def path(self, state: State, entry_id: EntryId) -> Path:
        """Where an entry of that state lies."""
        return self.folder(state) / entry_id

    def retry_path(self, entry_id: EntryId, state: State = State.DEFERRED) -> Path:
        """Where the sidecar of an entry lies that waits, or will wait, in that state."""
        return self.folder(state.waits_in) / f"{entry_id}.retry"

    def held_retry_path(self, entry_id: EntryId, state: State = State.DEFERRED) -> Path:
        """Where the sidecar of an entry lies that was in that state before it was held."""
        return self.folder(State.HOLD) / f"{entry_id}.{'remote' if state is State.REMOTE else 'retry'}"

    def state_of(self, entry_id: EntryId) -> State | None:
        """Where an entry is, or None where it is nowhere."""
        return next((state for state in State if self.path(state, entry_id).exists()), None)

    def entries(self, state: State) -> list[EntryId]:
        """The entries of a state, in order of arrival; raises OSError."""
        return sorted(EntryId(name) for name in os.listdir(self.folder(state)) if is_entry_id(name))

    def everything(self) -> list[str]:
        """The ids of all entries and claims, read in the order in which they move on; raises OSError."""
        claims = [name.removesuffix(_CLAIM) for name in os.listdir(self.tmp) if name.endswith(_CLAIM)]
        return [*claims, *(name for state in State for name in os.listdir(self.folder(state)) if is_entry_id(name))]

    def strangers(self) -> list[Path]:
        """What nobody will ever decide where it lies, because its name is not that of an entry; raises OSError."""
        folders = [self.folder(state) for state in State if state is not State.HOLD]
        found = [folder / name for folder in folders for name in os.listdir(folder) if not _belongs_to_an_entry(name)]
        return sorted(found)

    def open(self, state: State, entry_id: EntryId, *, in_memory: bool = False) -> tuple[BinaryIO, Block]:
        """The entry's file, positioned at the message, and its envelope; raises OSError, FormatError.

        `in_memory` is for who reads all of it: a small one is then read by one call, and has no descriptor.
        """
        file = _opened(self.path(state, entry_id), in_memory=in_memory)
        try:
            block = read_block(file)
            if block is None:
                raise FormatError("expected an envelope: X-Sender, then X-Receiver", 1, 0)
            file.seek(block.length)
        except BaseException:
            file.close()
            raise
        return file, block

    def draft(self, entry_id: EntryId, stock: Stock | None = None) -> Draft:
        """A new draft of this process, to be published under `path`; made of a spare file where `stock` has one."""
        return Draft(self.drafts / f"{entry_id}.{os.getpid()}", stock.take if stock else None)

    def sweep_drafts(self) -> int:
        """Remove the drafts of processes that are gone; gives their number. Raises OSError."""
        orphans = [path for path in self.drafts.iterdir() if _is_orphaned_draft(path)]
        durable.raise_first(durable.remove(orphans))
        return len(orphans)

    # --- the drop box ------------------------------------------------------------------------------

    def dropped(self) -> list[Path]:
        """What lies in the drop box and is meant for us: every visible file, in the order of names; raises OSError."""
        with os.scandir(self.root) as found:
            names = [
                each.name for each in found if not is_left_alone(each.name) and not each.is_dir(follow_symlinks=False)
            ]
        return [self.root / name for name in sorted(names)]

    def claim(self, path: Path, entry_id: EntryId) -> Claim:
        """Make a dropped file ours; raises OSError (FileNotFoundError: somebody took it back)."""
        folder = self.tmp / f"{entry_id}{_CLAIM}"
        folder.mkdir(mode=0o700)
        try:
            claimed = path.rename(folder / path.name)
        except OSError:
            folder.rmdir()
            raise
        return Claim(entry_id, claimed)

    def claims(self) -> list[Claim]:
        """Claims that an earlier process left behind, in order; raises OSError."""
        claims = []
        for folder in sorted(self.tmp.glob(f"*{_CLAIM}")):
            paths = list(folder.iterdir())
            if paths:
                claims.append(Claim(EntryId(folder.name.removesuffix(_CLAIM)), paths[0]))
            else:
                folder.rmdir()
        return claims

    def finish_claim(self, claim: Claim) -> None:
        """Remove a claim whose entry is published, or whose file was set aside; raises OSError."""
        claim.path.unlink(missing_ok=True)
        claim.path.parent.rmdir()

    # --- what waits for a person -------------------------------------------------------------------

    def set_aside(self, claim: Claim, reason: str) -> Path:
        """Move a claimed file to `bad/` as it is, with the reason beside it; gives its new path. Raises OSError."""
        place = self.bad / claim.path.name
        # The reason of `a` may stand where a bad file `a.txt` does: neither takes the other's place.
        is_taken = any(os.path.lexists(each) for each in (place, place.with_name(f"{place.name}.txt")))
        if len(os.fsencode(place.name)) > MAX_BAD_NAME or is_taken:
            place = self.bad / f"{claim.entry_id}{place.suffix[:20]}"
        durable.write_file(place.with_name(f"{place.name}.txt"), _text(reason))
        durable.move(claim.path, place)
        self.finish_claim(claim)
        return place

    def hold(self, state: State, entry_id: EntryId, reason: str) -> None:
        """Move an entry to `hold/`, with the reason, and what it was served already, beside it; raises OSError."""
        self.explain(entry_id, reason)
        sidecar = self.retry_path(entry_id, state)
        if state.has_sidecar and (sidecar.exists() or state is State.REMOTE):
            octets = sidecar.read_bytes() if sidecar.exists() else b""  # it says where the entry was
            durable.write_file(self.held_retry_path(entry_id, state), octets)
        durable.move(self.path(state, entry_id), self.path(State.HOLD, entry_id))
        durable.forget([sidecar] if state.has_sidecar else [])

    def hold_claim(self, claim: Claim, reason: str) -> None:
        """The same for a claimed file that is not to be read again; raises OSError."""
        self.explain(claim.entry_id, reason)
        durable.move(claim.path, self.path(State.HOLD, claim.entry_id))
        self.finish_claim(claim)

    def release(self, entry_id: EntryId) -> State:
        """Move an entry from `hold/` to where it is decided: says where. Raises OSError."""
        was = [each for each in (State.DEFERRED, State.REMOTE) if self.held_retry_path(entry_id, each).exists()]
        state = was[0] if was else State.NEW
        if was and (octets := self.held_retry_path(entry_id, state).read_bytes()):
            durable.write_file(self.retry_path(entry_id, state), octets)
        durable.move(self.path(State.HOLD, entry_id), self.path(state, entry_id))
        durable.forget([*self._held_sidecars(entry_id), self.folder(State.HOLD) / f"{entry_id}.txt"])
        return state

    def drop_again(self, entry_id: EntryId) -> Path:
        """Move a held file that is no entry back into the drop box, to be claimed anew; raises OSError."""
        place = self.root / f"{entry_id}.eml"
        durable.move(self.path(State.HOLD, entry_id), place)
        durable.forget([self.folder(State.HOLD) / f"{entry_id}.txt"])
        return place

    def remove(self, state: State, entry_id: EntryId) -> None:
        """Remove an entry and what lies beside it, for good; raises OSError."""
        beside = {
            State.DEFERRED: [self.retry_path(entry_id)],
            State.REMOTE: [self.retry_path(entry_id, State.REMOTE)],
            State.HOLD: [*self._held_sidecars(entry_id), self.folder(State.HOLD) / f"{entry_id}.txt"],
        }
        durable.raise_first(durable.remove([self.path(state, entry_id), *beside.get(state, [])]))

    def _held_sidecars(self, entry_id: EntryId) -> list[Path]:
        return [self.held_retry_path(entry_id, each) for each in (State.DEFERRED, State.REMOTE)]

    # --- what a command asks of delivery -----------------------------------------------------------

    def ask_again(self, entry_ids: Sequence[EntryId]) -> None:
        """Have the program look at these entries, and at the spool, at once; raises OSError."""
        fd = os.open(self._again, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write("".join(f"{entry_id}\n" for entry_id in entry_ids).encode())

    def is_asked_again(self) -> bool:
        """Whether anything was asked for."""
        return self._again.exists()

    def asked_again(self) -> list[EntryId]:
        """What was asked for, once; raises OSError."""
        names = self._again.read_bytes().decode("ascii", "replace").split()
        self._again.unlink()
        return [EntryId(name) for name in names if is_entry_id(name)]

    def reason(self, entry_id: EntryId) -> str:
        """Why an entry is held, in words, which a person may have written; empty where nobody has said so."""
        path = self.folder(State.HOLD) / f"{entry_id}.txt"
        return path.read_text("utf-8", "replace").strip() if path.exists() else ""

    def explain(self, entry_id: EntryId, reason: str) -> None:
        """Write the reason for which an entry is about to be held; raises OSError."""
        durable.write_file(self.folder(State.HOLD) / f"{entry_id}.txt", _text(reason))


def shown(name: str) -> str:
    """A file name as it may be printed: odd octets and control characters as escapes."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def is_left_alone(name: str) -> bool:
    """Whether a name in the drop box is somebody's unfinished work and not yet mail."""
    return name.startswith(".") or name.endswith(_LEFT_ALONE)


def _opened(path: Path, *, in_memory: bool) -> BinaryIO:
    if in_memory:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            octets = os.read(fd, READ_AHEAD)
        finally:
            os.close(fd)
        if len(octets) < READ_AHEAD:
            return io.BytesIO(octets)
    return path.open("rb", buffering=READ_AHEAD)


def _belongs_to_an_entry(name: str) -> bool:
    """Whether it is one, or its sidecar, or the draft of that."""
    return is_entry_id(name) or is_entry_id(name.removeprefix(".").removesuffix(".tmp").removesuffix(".retry"))


def _text(reason: str) -> bytes:
    return f"{reason.rstrip()}\n".encode("utf-8", "backslashreplace")


def _is_orphaned_draft(path: Path) -> bool:
    entry_id, _, pid = path.name.partition(".")
    return is_entry_id(entry_id) and pid.isdigit() and not Path(f"/proc/{pid}").exists()
