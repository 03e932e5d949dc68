"""The private keys of DKIM: `var/dkim/DOMAIN/SELECTOR.STAGE`, each in PEM, for the programs alone (0600).

DOMAIN is in A-labels and small letters. A key changes its stage by a rename, so that it has one and only one.
"""

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from mailsrv.store import durable

_LOOKS: Final = 20  # at a folder that changes
# RFC 6376 §3.1: sub-domains; one label here, as no dot tells it from the stage.
_SELECTOR: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Stage(Enum):
    """What a key is for, by the end of its name."""

    SIGNS = "pem"
    NEXT = "next"  # waits until its record is in the DNS
    RETIRED = "retired"  # signs no more; its record is still needed for mail that is under way


@dataclass(frozen=True, slots=True)
class KeyFile:
    """Where a key lies; `seen` changes whenever the file does."""

    domain: str
    selector: str
    stage: Stage
    path: Path
    seen: tuple[int, int, int]

    def read(self) -> bytes:
        """What is in it; raises OSError."""
        return self.path.read_bytes()


def is_selector(text: str) -> bool:
    """Whether it can be one."""
    return _SELECTOR.fullmatch(text) is not None


def domains(folder: Path) -> list[str]:
    """The domains that have a folder; raises OSError."""
    if not folder.exists():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def key_files(folder: Path, domain: str) -> list[KeyFile]:
    """The keys of a domain by their selectors, none where it has no folder; raises OSError.

    Other files are somebody's notes, and are left alone. Where a key changes its stage just now, it is looked again:
    for the moment in which it has neither name, a domain would seem to have no keys.
    """
    for _ in range(_LOOKS):
        try:
            names = sorted(os.listdir(folder / domain))
        except FileNotFoundError:
            return []
        with contextlib.suppress(FileNotFoundError):
            return [_key_file(folder, domain, name) for name in names if _is_key(name)]
    raise FileNotFoundError(errno.ENOENT, "the keys never stay as they are", str(folder / domain))


def _is_key(name: str) -> bool:
    selector, _, end = name.rpartition(".")
    return end in {stage.value for stage in Stage} and is_selector(selector)


def _key_file(folder: Path, domain: str, name: str) -> KeyFile:
    path = folder / domain / name
    status = path.stat()
    selector, _, end = name.rpartition(".")
    return KeyFile(domain, selector, Stage(end), path, (status.st_mtime_ns, status.st_size, status.st_ino))


def write_key(folder: Path, domain: str, selector: str, stage: Stage, pem: bytes) -> None:
    """Write a new key, its folder made where it is missing; raises OSError."""
    (folder / domain).mkdir(mode=0o700, parents=True, exist_ok=True)
    durable.write_file(folder / domain / f"{selector}.{stage.value}", pem)


def set_stage(key: KeyFile, stage: Stage) -> None:
    """Have a key be of another stage; raises OSError."""
    durable.move(key.path, key.path.with_name(f"{key.selector}.{stage.value}"))


def remove_key(key: KeyFile) -> None:
    """Remove a key for good; raises OSError."""
    durable.raise_first(durable.remove([key.path]))
