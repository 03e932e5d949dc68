"""A filesystem of one's own that can lose its power: ext4 in a file, told by its own ioctl to stop at this instant.

What the kernel had not yet written by then is gone, the journal's end included, as fstests have it. It takes root and a
loop device.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

OCTETS: Final = 64 * 1024 * 1024
_SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN
_WITHOUT_LOG: Final = (2).to_bytes(4, "little")  # EXT4_GOING_FLAGS_NOLOGFLUSH


class Disk:
    """Mounted at `place`."""

    def __init__(self, folder: Path, *, has_journal: bool) -> None:
        self.place = folder / "disk"
        self._image = folder / "image"
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(OCTETS)
        features = [] if has_journal else ["-O", "^has_journal"]
        _run("mkfs.ext4", "-q", "-F", *features, str(self._image))
        self._mount()

    def lose_power(self) -> None:
        """From now on nothing is written; whoever works there gets errors."""
        fd = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_LOG)
        os.close(fd)

    def start_again(self) -> None:
        """As after the power has come back."""
        _run("umount", str(self.place))
        repaired = subprocess.run(["e2fsck", "-fy", str(self._image)], check=False, capture_output=True, text=True)
        assert repaired.returncode in (0, 1), repaired.stdout
        self._mount()

    def remove(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", str(self.place)], check=False, capture_output=True)

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.place))


@contextmanager
def a_disk(*, has_journal: bool) -> Iterator[Disk]:
    """A disk, or the test is skipped where there can be none."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-disk-"))
    try:
        disk = _disk_in(folder, has_journal=has_journal)
        try:
            yield disk
        finally:
            disk.remove()
    finally:
        shutil.rmtree(folder)


def _disk_in(folder: Path, *, has_journal: bool) -> Disk:
    try:
        return Disk(folder, has_journal=has_journal)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no filesystem of our own can be mounted here: {error}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
