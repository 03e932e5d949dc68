"""Small documents of JSON that a program writes for itself, to be read after its restart."""

import json
from pathlib import Path

from mailsrv.store import durable


def remember(path: Path, document: object) -> None:
    """Put it in place of what was there, whole or not at all; raises OSError."""
    durable.write_volatile(path, json.dumps(document).encode())


def recall(path: Path) -> object:
    """What was remembered; None where nothing was, or nothing that can be read."""
    try:
        found: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found
