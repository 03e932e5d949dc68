"""What every program does first: into its root, its configuration, its log, its privileges, its heartbeat."""

import argparse
import contextlib
import fcntl
import importlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from mailsrv.config import Config, load
from mailsrv.daemon import faults
from mailsrv.host import stacks
from mailsrv.host.memory import keep_freed_memory
from mailsrv.host.privileges import Capability, NoSuchUserError, drop_privileges, end_with_parent
from mailsrv.model.mistake import Mistake
from mailsrv.model.program import program_of
from mailsrv.store.heartbeat import Heart

T = TypeVar("T")

MISUSE: Final = 2
EX_ALREADY_RUNNING: Final = 75

# Modules that Python would import only when they are first needed: by then we may not be allowed to read them.
_NEEDED_LATER: Final = (
    "encodings.idna",
    "encodings.ascii",
    "encodings.latin_1",
    "encodings.punycode",
    "email.mime.text",
    "idna.uts46data",
    "json.decoder",
)


def process_name(program: str) -> str:
    """What supervisord calls this process: the program's name, or one of several such as `smtp_01`."""
    told = os.environ.get("SUPERVISOR_PROCESS_NAME", "")
    return told if program_of(told) == program else program


def start(name: str, prepare: Callable[[Config], T], keep: tuple[Capability, ...] = ()) -> tuple[Config, Heart, T]:
    """Begin as the process of this supervisor name; `prepare` is done before privileges are dropped (to bind ports).

    `keep` is what is not dropped. Where the configuration is not usable, ends the process with a line that says why.
    """
    root = _root_argument(name)
    # Sent to who has a lease when somebody opens that file: leases are for a moment here, and this would end us.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s", force=True
    )
    keep_freed_memory()
    try:
        os.chdir(root)
        config = load(Path())
        os.umask(0o077)
        _raise_descriptor_limit()
        for module in _NEEDED_LATER:
            importlib.import_module(module)
        prepared = prepare(config)
        drop_privileges(config.run_as, keep)
        end_with_parent()
        stacks.write_on_signal(config.stacks_path(name))
        heart = Heart(config.beat_path(name))
    except (Mistake, NoSuchUserError) as error:
        _give_up(str(error))
    except OSError as error:
        _give_up(f"{error.strerror or error}: {error.filename or root}; `mailsrv check` tells more")
    if config.drill.hooks:
        faults.install(config.fault_path(name))
    logging.info("started, process %d", os.getpid())
    return config, heart, prepared


def be_the_only_one(program: str, folder: Path) -> int:
    """The lock in `folder` that says so, to be held open; where another has it, ends the process with a line."""
    fd = os.open(folder / f"{program}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    logging.error("another %s is at work on this spool", program)
    sys.exit(EX_ALREADY_RUNNING)


def _root_argument(name: str) -> Path:
    program = program_of(name)
    parser = argparse.ArgumentParser(prog=f"mailsrv-{program}", description=f"The {program} program of mailsrv.")
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("MAILSRV_ROOT", ".")), help="the instance")
    root: Path = parser.parse_args().root
    return root


def _give_up(text: str) -> NoReturn:
    logging.error("%s", text)
    sys.exit(MISUSE)


def _raise_descriptor_limit() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
