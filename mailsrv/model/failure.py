"""Faults on our side: an error of the operating system is always temporary, and never bounces a user's mail.

The peer is told a reply; the cause goes to our log only.
"""

import errno
from typing import Final

from mailsrv.model.reply import INSUFFICIENT_STORAGE, LOCAL_ERROR, Reply

_STORAGE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def reply_to(error: OSError) -> Reply:
    """What a peer is told of `error`."""
    return INSUFFICIENT_STORAGE if error.errno in _STORAGE else LOCAL_ERROR
