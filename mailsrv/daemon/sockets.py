"""The listening sockets of smtp and pop3: borrowed from whoever holds them, else bound.

Several processes of a program share its sockets: whichever comes first binds, and lends to the others. Besides, each
has one that is its own, for `health` to talk to it and to no other.
"""

import errno
import functools
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from mailsrv.config import Config
from mailsrv.host import listening
from mailsrv.model.mistake import Mistake
from mailsrv.model.program import is_copy, program_of

logger = logging.getLogger(__name__)

LMTP: Final = "lmtp"
LENT_WITHIN: Final = 10.0  # seconds until a sibling that has bound lends, which it does as soon as it serves
PAUSE: Final = 0.1

Wanted: TypeAlias = Mapping[str, Callable[[], socket.socket]]  # how each is bound, by label


def listening_sockets(config: Config, name: str, listeners: tuple[str, ...]) -> dict[str, socket.socket]:
    """The sockets for the listeners of this process, by label; raises Mistake."""
    wanted = _wanted(config, name, listeners)
    if not is_copy(name):
        return _bound(config, wanted, _borrowed(config, name, wanted))
    with listening.alone(config.binding_path(program_of(name))):
        deadline = time.monotonic() + LENT_WITHIN
        while True:
            found = _borrowed(config, name, wanted)
            try:
                return _bound(config, wanted, found)
            except Mistake as mistake:
                # A sibling has bound, and does not lend yet; or somebody else has.
                cause = mistake.__cause__
                is_taken = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
                if not is_taken or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)


def _borrowed(config: Config, name: str, wanted: Wanted) -> dict[str, socket.socket]:
    found: dict[str, socket.socket] = {}
    for lender in dict.fromkeys(("health", name, *_siblings(config, name))):
        for label, listener in listening.borrow(config.sockets_path(lender)).items():
            if label in wanted and label not in found and listening.is_reachable(listener):
                logger.info("borrowed %s", label)
                found[label] = listener
            else:
                listener.close()
    return found


def _siblings(config: Config, name: str) -> Iterator[str]:
    program = program_of(name)
    paths = config.run.glob(f"{program}*.sockets")
    return (path.stem for path in sorted(paths) if program_of(path.stem) == program)


def _bound(config: Config, wanted: Wanted, found: dict[str, socket.socket]) -> dict[str, socket.socket]:
    """What was found, and the rest; raises Mistake, with nothing left open."""
    found = found.copy()
    for label in wanted.keys() - found.keys():
        try:
            found[label] = wanted[label]()
        except OSError as error:
            listening.close_all(found.values())
            raise Mistake(config.path, 0, f"{label}: {error.strerror}") from error
    return found


def _wanted(config: Config, name: str, listeners: tuple[str, ...]) -> Wanted:
    """How each listener that is to be there is bound, by its label."""
    address = config.listen.address
    wanted: dict[str, Callable[[], socket.socket]] = {
        listening.label(each, address, port): functools.partial(listening.bind, address, port)
        for each, port in config.ports().items()
        if each in listeners
    }
    if LMTP in listeners and config.listen.lmtp:
        path = Path(config.listen.lmtp)
        wanted[listening.unix_label(LMTP, path)] = functools.partial(listening.bind_unix, path)
    if is_copy(name):
        path = config.door_path(name)
        wanted[listening.unix_label(listeners[0], path)] = functools.partial(listening.bind_unix, path)
    return wanted
