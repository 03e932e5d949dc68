"""How much memory large messages take while they come in: 25 MB each, eight at once."""

import threading

from bench.contender import Contender
from bench.load import Letters, Sender, together
from bench.mailboxes import put_aside, wait_for
from bench.temporary import USER

OCTETS = 25_000_000
AT_ONCE = 8
_INTERVAL = 0.05  # seconds between looks


def growth(contender: Contender) -> float:
    """MB by which all its processes together grow, at the peak; the messages go through to the mailbox."""
    put_aside(contender.mailbox, contender.spent)
    before = contender.memory()
    peak, is_over = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_over.wait(_INTERVAL):
            peak = max(peak, contender.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        sender, numbers = Sender(contender.port, USER, Letters(OCTETS)), iter(range(AT_ONCE))
        together(sender.send_all(numbers, anew=False) for _ in range(min(AT_ONCE, contender.at_once)))
        wait_for(contender.mailbox, AT_ONCE, contender.name)
    finally:
        is_over.set()
        watcher.join()
    return peak - before
