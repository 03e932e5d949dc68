"""What tests of healing share: programs made ill, incidents, and which row of the table each test is about."""

import json
import os
import signal
from collections.abc import Callable
from typing import Any, TypeVar

from mailsrv.work.symptoms import Symptom
from tests.system.instance import Instance, wait_until

MESSAGE = b"From: alice@example.org\r\nTo: admin@localhost\r\nSubject: x\r\n\r\nbody\r\n"
# Everything ten times as fast, so that a window is a matter of seconds; what a test is not about is out of the way.
QUICK: dict[str, object] = {
    "drill__hooks": True,
    "health__interval": 0.5,
    "health__message_interval": 0,
    "smtp__drain_seconds": 2,
    "relay__drain_seconds": 2,
    "pop3__drain_seconds": 2,
}


T = TypeVar("T", bound=Callable[..., None])

MADE: dict[Symptom, list[str]] = {}


def makes(*symptoms: Symptom) -> Callable[[T], T]:
    """Says of a test that it makes these symptoms real."""

    def note(test: T) -> T:
        for symptom in symptoms:
            MADE.setdefault(symptom, []).append(test.__name__)
        return test

    return note


def incidents(instance: Instance, symptom: str = "", program: str = "") -> list[dict[str, Any]]:
    """The incidents that are kept, as the command line tells of them."""
    found: list[dict[str, Any]] = json.loads(instance.mailsrv("incidents", "list", "--json").stdout)
    return [each for each in found if symptom in str(each["symptom"]) and program in each["program"]]


def shown(instance: Instance, name: str) -> dict[str, Any]:
    """All of an incident."""
    found: dict[str, Any] = json.loads(instance.mailsrv("incidents", "show", name, "--json").stdout)
    return found


def suffer(instance: Instance, program: str, fault: str) -> int:
    """Make a running program ill; gives its process."""
    instance.wait_until_running(program)
    place = instance.root / "var" / "run" / f"{program}.fault"
    place.write_text(fault)
    place.chmod(0o666)
    pid = instance.pid(program)
    os.kill(pid, signal.SIGUSR2)
    return pid


def wait_healed(instance: Instance, program: str, pid: int, symptom: str, patience: float = 40) -> dict[str, Any]:
    """Wait until another process is there instead of `pid`, and the incident says so; gives it whole."""
    wait_until(lambda: instance.pid(program) not in (0, pid), f"{program} is new", patience)

    def told() -> list[dict[str, Any]]:
        return [
            each
            for each in incidents(instance, symptom, program)
            if each["outcome"] == "RUNNING" and each["pid"] == pid
        ]

    try:
        return shown(instance, wait_until(told, f"an incident of {program}: {symptom}")[-1]["name"])
    except AssertionError as error:
        error.add_note(f"process {pid}; there are {incidents(instance)}")
        raise


def facts(instance: Instance, program: str) -> dict[str, Any]:
    """What a program says of itself."""
    (found,) = [each for each in instance.status()["programs"] if each["name"] == program]
    told: dict[str, Any] = found["facts"]
    return told


def works(instance: Instance) -> bool:
    """Whether a message comes through."""
    before = len(instance.delivered())
    instance.send(MESSAGE)
    return len(instance.wait_delivered(before + 1)) == before + 1
