"""Killing a writer at every step: work is done in a child process that vanishes just before its n-th file-system call.

A process that dies loses nothing that the kernel was told, so the syncs count as steps but wait for no disk. A write
that is died in leaves half of its octets: torn, as a real one may be.
"""

import gc
import itertools
import json
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from mailsrv.store import durable

CALLS: Final = ("open", "write", "fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir")
SYNCS: Final = ("fsync", "syncfs", "write_out")
KILLED: Final = 137
_write: Final = os.write


class Call(NamedTuple):
    """A file-system call, and the paths that it was about."""

    name: str
    paths: tuple[str, ...]


def dies_before(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a child that vanishes like kill -9 just before call number `step`; False if it came to its end."""

    def hooked() -> None:
        vanish_before(step)
        work()

    code = _wait(start(hooked))
    assert code in (0, KILLED), f"the child failed at step {step}, its traceback is on stderr"
    return code == KILLED


def vanish_before(step: int) -> None:
    """Have this process vanish before its file-system call number `step` from now on; only a child may do this."""
    numbers = itertools.count()

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        if not _is_step(name, arguments):
            return
        if next(numbers) == step:
            if name == "write":
                _write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            os._exit(KILLED)

    _hook(look)


def deaths(
    base: Path, prepare: Callable[[Path], object], work: Callable[[Path], object], *, first: int = 0, every: int = 1
) -> Iterator[Path]:
    """Kill `work` before its call 0, 1, 2 ..., each time in a place of its own; in the last one it came to its end."""
    for step in itertools.count(first, every):
        place = base / f"step-{step}"
        place.mkdir(parents=True)
        prepare(place)
        is_killed = dies_before(step, partial(work, place))
        yield place
        if not is_killed:
            return


def run(work: Callable[[], object]) -> None:
    """Do `work` in a child, to its end, without waiting for the disk."""
    assert not dies_before(-1, work)


def calls_of(work: Callable[[], object]) -> list[Call]:
    """Do `work` in a child; the calls that it made, in order."""
    calls: list[Call] = []

    def record() -> str:
        _hook(lambda name, arguments: calls.append(Call(name, _paths_in(arguments))))
        work()
        return json.dumps(calls)

    return [Call(name, tuple(paths)) for name, paths in json.loads(answer_of(record))]


def answer_of(work: Callable[[], str]) -> str:
    """Do `work` in a child that may change itself (its user, its limits); what it returned."""
    reading, writing = os.pipe()

    def answer() -> None:
        octets = work().encode()
        while octets:
            octets = octets[_write(writing, octets) :]

    pid = start(answer)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    assert _wait(pid) == 0, "the child failed, its traceback is on stderr"
    return text


def start(work: Callable[[], object]) -> int:
    """Do `work` in a child; its pid, for the caller to wait for."""
    with warnings.catch_warnings():
        # The test runner may have threads; none of them holds a lock that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    gc.disable()  # or it would touch, and so copy, all that the parent holds
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - told below, for the parent to fail on
        _write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
    os._exit(code)


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _is_step(name: str, arguments: tuple[Any, ...]) -> bool:
    """To die before a file is opened for reading is to die after the call before that."""
    return name != "open" or bool(arguments[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))


def _hook(look: Callable[[str, tuple[Any, ...]], None]) -> None:
    """Have `look` called before each call. For good: only a child may do this."""
    for name in CALLS:
        setattr(os, name, partial(_hooked, look, name, getattr(os, name)))
    for name in ("syncfs", "write_out"):  # it is nobody else's business
        setattr(durable, f"_{name}", partial(_hooked, look, name, os.fsync))


def _hooked(
    look: Callable[[str, tuple[Any, ...]], None], name: str, real: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    look(name, args)
    return None if name in SYNCS else real(*args, **kwargs)


def _paths_in(arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """The paths among the first two arguments of a call; a descriptor counts as the path that it was opened by."""
    paths = []
    for argument in arguments[:2]:
        if isinstance(argument, int):
            with suppress(OSError):
                paths.append(str(Path(f"/proc/self/fd/{argument}").readlink()))
            break
        if isinstance(argument, str | os.PathLike):
            paths.append(os.fspath(argument))
    return tuple(paths)
