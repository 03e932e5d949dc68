"""The evidence of a fault, gathered before anything is done about it, and kept as an incident."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mailsrv.config import Config
from mailsrv.host import stacks
from mailsrv.host.processes import open_files
from mailsrv.store import incidents
from mailsrv.store.heartbeat import read_beat
from mailsrv.store.steps import read_steps
from mailsrv.work.octets import no_tick
from mailsrv.work.symptoms import Symptom, rule_of

logger = logging.getLogger(__name__)

STACKS_TIMEOUT: Final = 3.0  # seconds
FILES_TIMEOUT: Final = 1.0
NO_PROCESS: Final = "no stacks: there is no process\n"


def keep(
    config: Config,
    program: str,
    symptom: Symptom,
    *,
    pid: int = 0,
    facts: Mapping[str, Any] | None = None,
    tick: Callable[[], None] = no_tick,
) -> Path | None:
    """Keep what is known of a program; `pid` is its process while it lives. Gives the incident's folder.

    One that hangs answers not at all, which takes seconds to learn: `tick` is called meanwhile.
    A full disk must not keep a process ill: where nothing can be kept, the log says so, and there is None.
    """
    beat = read_beat(config.beat_path(program))
    report = {
        "symptom": symptom.value,
        "action": rule_of(symptom).action.value,
        "pid": pid or (beat.pid if beat else 0),
        "in_hand": beat.in_hand if beat else "",
        "beat_age": round(beat.age(), 3) if beat else None,
        "facts": dict(beat.facts) if beat else {},
        "open_files": _open_files(config, program, pid, tick) if pid else [],
        "steps": read_steps(config.steps_path(program)),
        **(facts or {}),
    }
    path = config.stacks_path(program)
    where = stacks.request(pid, path, STACKS_TIMEOUT, tick) if pid else _last_stacks(path)
    try:
        place = incidents.keep(config.incidents, program, report, where)
        incidents.prune(config.incidents, config.health.keep_incidents, config.health.keep_days)
    except OSError as error:
        logger.warning("%s: the evidence could not be kept: %s", program, error.strerror)
        return None
    logger.warning("%s: the evidence is in %s", program, place)
    return place


def _open_files(config: Config, program: str, pid: int, tick: Callable[[], None]) -> list[str]:
    """As the process tells, or, where it does not answer, as far as we may see."""
    return stacks.request_files(pid, config.stacks_path(program), FILES_TIMEOUT, tick) or open_files(pid)


def _last_stacks(path: Path) -> str:
    """Of a process that is gone: where it was, if it died of a fault that Python was told of."""
    try:
        return path.read_text("ascii", "replace") or NO_PROCESS
    except OSError:
        return NO_PROCESS
