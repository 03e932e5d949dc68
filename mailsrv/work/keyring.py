"""The keys of DKIM: those that sign, read again when they have changed, and what a person does with them.

A new selector is published before it signs, and an old one stays published after it has signed its last message. So
keys change without a message that cannot be verified: `rotate` makes the next keys, `activate` has them sign.
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.host.signing import Algorithm, SigningKey, make_key, read_key
from mailsrv.model.mistake import Mistake
from mailsrv.store import signing_keys
from mailsrv.store.signing_keys import KeyFile, Stage
from mailsrv.work.instance import acting_as

LOOKS: Final = 5  # at keys that change


class KeysError(Exception):
    """What was asked for cannot be done with the keys as they are: why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was read."""

    file: KeyFile
    key: SigningKey

    @property
    def owner(self) -> str:
        """The name of its record in the DNS, without a dot at the end."""
        return f"{self.file.selector}._domainkey.{self.file.domain}"

    @property
    def record(self) -> str:
        """What its record says (RFC 6376 §3.6.1)."""
        return f"v=DKIM1; k={self.key.algorithm.value}; p={self.key.public}"


class Keyring:
    """The keys below a folder. For any number of threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: dict[Path, Key] = {}

    def signing(self, domain: str) -> list[Key]:
        """The keys that sign for a domain, none where it has none; raises OSError, Mistake.

        `domain` is in A-labels. A listing and a stat for each key where nothing has changed.
        """
        for _ in range(LOOKS):
            files = signing_keys.key_files(self._folder, domain)
            with contextlib.suppress(FileNotFoundError):  # retired just now: the next ones are there
                return [self.key(each) for each in files if each.stage is Stage.SIGNS]
        return [self.key(each) for each in files if each.stage is Stage.SIGNS]

    def key(self, file: KeyFile) -> Key:
        """What is in the file; raises OSError, Mistake."""
        with self._lock:
            known = self._read.get(file.path)
            if known is None or known.file != file:
                known = self._read[file.path] = _read(file)
            return known

    def files(self) -> list[KeyFile]:
        """All keys of all domains; raises OSError."""
        return [
            file
            for domain in signing_keys.domains(self._folder)
            for file in signing_keys.key_files(self._folder, domain)
        ]

    def mistakes(self) -> dict[Path, Mistake]:
        """What is wrong with the keys as they are, by their paths."""
        found = {}
        try:
            for file in self.files():
                try:
                    self.key(file)
                except Mistake as mistake:
                    found[file.path] = mistake
        except OSError as error:
            place = Path(error.filename or self._folder)
            found[place] = Mistake(place, 0, f"expected to be readable: {error.strerror}")
        return found


def _read(file: KeyFile) -> Key:
    try:
        return Key(file, read_key(file.read()))
    except ValueError as error:
        raise Mistake(file.path, 0, str(error)) from error
    except PermissionError as error:
        raise Mistake(file.path, 0, f"expected to be readable: {error.strerror}") from error


# --- what a person does ----------------------------------------------------------------------------


def keys_of(config: Config, domain: str) -> list[Key]:
    """The keys of a domain in all stages; raises OSError, Mistake."""
    ring = Keyring(config.dkim_keys)
    return [ring.key(file) for file in signing_keys.key_files(config.dkim_keys, domain)]


def make(config: Config, domain: str, name: str, algorithms: Sequence[Algorithm]) -> list[Key]:
    """New keys, one of each kind: they sign where the domain has none, else they wait; raises KeysError, OSError."""
    there = signing_keys.key_files(config.dkim_keys, domain)
    if any(each.stage is Stage.NEXT for each in there):
        raise KeysError(f"{domain} has keys already that wait for `mailsrv dkim activate {domain}`")
    stage = Stage.NEXT if any(each.stage is Stage.SIGNS for each in there) else Stage.SIGNS
    name = name or _free_name({each.selector for each in there})
    selectors = {f"{name}-{each.value}": each for each in algorithms}
    for selector in selectors:
        if not signing_keys.is_selector(selector):
            raise KeysError(f"{selector}: expected a selector of small letters, digits and hyphens")
        if selector in {each.selector for each in there}:
            raise KeysError(f"{domain} has a key with the selector {selector} already")
    made = {selector: make_key(algorithm) for selector, algorithm in selectors.items()}
    with acting_as(config):
        for selector, pem in made.items():
            signing_keys.write_key(config.dkim_keys, domain, selector, stage, pem)
    return [each for each in keys_of(config, domain) if each.file.selector in selectors]


def activate(config: Config, domain: str) -> list[Key]:
    """Have the keys that wait sign, and retire those that did; gives all. Raises KeysError, OSError."""
    keys = keys_of(config, domain)
    waiting = [each for each in keys if each.file.stage is Stage.NEXT]
    if not waiting:
        raise KeysError(f"{domain} has no keys that wait; `mailsrv dkim rotate {domain}` makes them")
    with acting_as(config):
        for each in waiting:  # first: at no moment is there none
            signing_keys.set_stage(each.file, Stage.SIGNS)
        for each in keys:
            if each.file.stage is Stage.SIGNS:
                signing_keys.set_stage(each.file, Stage.RETIRED)
    return keys_of(config, domain)


def retire(config: Config, domain: str, selector: str) -> None:
    """Have a key sign no more; raises KeysError, OSError."""
    file = _file_of(config, domain, selector)
    if file.stage is Stage.RETIRED:
        raise KeysError(f"{selector} of {domain} is retired already")
    with acting_as(config):
        signing_keys.set_stage(file, Stage.RETIRED)


def remove(config: Config, domain: str, selector: str) -> None:
    """Remove a key that does not sign; raises KeysError, OSError."""
    file = _file_of(config, domain, selector)
    if file.stage is Stage.SIGNS:
        raise KeysError(f"{selector} of {domain} signs; `mailsrv dkim retire {domain} {selector}` ends that")
    with acting_as(config):
        signing_keys.remove_key(file)


def _file_of(config: Config, domain: str, selector: str) -> KeyFile:
    for file in signing_keys.key_files(config.dkim_keys, domain):
        if file.selector == selector:
            return file
    raise KeysError(f"{domain} has no key with the selector {selector}")


def _free_name(taken: set[str]) -> str:
    """A name of today."""
    today = f"{datetime.now(UTC):%Y%m%d}"
    names = (today, *(f"{today}{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"))
    for name in names:
        if not any(each.startswith(f"{name}-") for each in taken):
            return name
    raise KeysError("expected --selector: all names of today are taken")
