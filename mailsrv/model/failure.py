"""Two failures and one rule: what we do not know to be permanent is temporary.

A failure carries the reply for the peer; its cause goes to our log only. An error of the operating system
is a fault on our side and so always temporary: it never bounces a user's mail.
"""

import errno
from typing import Final

from mailsrv.model.reply import INSUFFICIENT_STORAGE, LOCAL_ERROR, Reply


class Failure(Exception):
    """A message, or one recipient of it, that could not be handled."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class TemporaryFailure(Failure):
    """Try again later."""


class PermanentFailure(Failure):
    """Trying again will not help."""


_STORAGE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def reply_to(error: OSError) -> Reply:
    """What a peer is told of `error`."""
    return INSUFFICIENT_STORAGE if error.errno in _STORAGE else LOCAL_ERROR
