"""Keeping listening sockets while their programs are away, and letting go of them once a program is stopped.

A restart by supervisorctl is a stop followed by a start: so a stop counts only when no start has followed within
GRACE seconds, counted from the last moment at which any program was stopping (`restart smtp pop3` stops both first).
"""

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Final

from mailsrv.host.listening import close_all
from mailsrv.host.supervisor import ProcessState, StateChange
from mailsrv.model.program import program_of

logger = logging.getLogger(__name__)

GRACE: Final = 1.3  # seconds: longer than supervisorctl takes between stop and start, and below the promised two

Borrow = Callable[[str], Mapping[str, socket.socket]]


class Keeper:
    """Duplicates of the listening sockets of `programs`; `borrow` fetches those of one."""

    def __init__(self, programs: tuple[str, ...], borrow: Borrow) -> None:
        self._programs = programs
        self._borrow = borrow
        self._kept: dict[str, dict[str, socket.socket]] = {}
        self._wanted: set[str] = set()  # programs that have come up, and are still to be borrowed from
        self._stopping: set[str] = set()
        self._stopped: set[str] = set()
        self._closing_since = 0.0  # monotonic seconds at which the last program was seen to stop

    def sockets(self) -> dict[str, socket.socket]:
        """Everything that is kept, by label."""
        return {label: each for kept in list(self._kept.values()) for label, each in list(kept.items())}

    def take(self, change: StateChange, now: float) -> None:
        """Learn that a program has come to a new state."""
        is_listening = program_of(change.name) in self._programs
        self._stopping.discard(change.name)
        self._stopped.discard(change.name)
        self._wanted.discard(change.name)
        if change.state is ProcessState.STOPPING:
            self._stopping.add(change.name)
        elif change.state is ProcessState.STOPPED:
            self._closing_since = now
            if is_listening:
                self._stopped.add(change.name)
        elif change.state in (ProcessState.STARTING, ProcessState.RUNNING) and is_listening:
            self._wanted.add(change.name)

    def turn(self, now: float) -> None:
        """Borrow from programs that have come up; let go of what belongs to programs that are stopped for good."""
        for name in self._wanted.copy():
            self._renew(name)
        if self._stopped and not self._stopping and now - self._closing_since >= GRACE:
            for name in self._stopped:
                close_all(self._kept.pop(name, {}).values())
                logger.info("the sockets of %s are closed", name)
            self._stopped.clear()

    def is_settling(self) -> bool:
        """Whether `turn` will soon have something to do."""
        return bool(self._stopped or self._wanted)

    def _renew(self, name: str) -> None:
        borrowed = dict(self._borrow(name))
        if borrowed:  # else it does not lend yet
            close_all(self._kept.get(name, {}).values())
            self._kept[name] = borrowed
            self._wanted.discard(name)
