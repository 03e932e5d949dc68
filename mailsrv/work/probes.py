"""Probes: `health` as a client of the programs, in a thread of its own, for a program that hangs answers late or never.

A dialogue with each port every `probe_interval`; every `message_interval` a message to a mailbox of our own by SMTP,
which is read back by POP3 and removed, and its way timed.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mailsrv.config import Config
from mailsrv.model.address import Mailbox
from mailsrv.model.program import is_copy, program_of
from mailsrv.store.heartbeat import Fact
from mailsrv.work import dialogues
from mailsrv.work.dialogues import GREETING, Door, RefusedError
from mailsrv.work.symptoms import Symptom, rule_of

logger = logging.getLogger(__name__)

LOCAL_PART: Final = "mailsrv-probe"
FIRST_MESSAGE: Final = 60.0  # seconds after the start, or `message_interval` where that is shorter
FIRST_LOOK: Final = 0.05  # seconds until the mailbox is looked at, doubling
LAST_LOOK: Final = 2.0
POLL: Final = 0.2
_QUEUED: Final = re.compile(r"queued as (\S+)")


def mailbox_of(config: Config) -> Mailbox:
    """The mailbox that messages are sent to."""
    return Mailbox(LOCAL_PART, config.domains[0])


def password_in(path: Path) -> str:
    """Its password; empty where there is none, and so no message is sent."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


class Prober:
    """The thread. `at_work` gives a program's processes that may be asked; `progress` what its heartbeat says of it."""

    def __init__(self, config: Config, at_work: Callable[[str], list[str]], progress: Callable[[str], int]) -> None:
        self._config = config
        self._at_work = at_work
        self._progress = progress
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()  # in a row, by program
        self._lost: Counter[str] = Counter()  # messages in a row, by the program at fault
        self._seconds: dict[str, float] = {}  # of the last dialogue, and of the last message's way
        self._whys: dict[str, str] = {}

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="prober", daemon=True).start()

    def symptom(self, program: str) -> Symptom | None:
        """What the probes have found of a program."""
        with self._lock:
            if self._failures[program] >= rule_of(Symptom.NO_ANSWER).window.samples:
                return Symptom.NO_ANSWER
            if self._lost[program_of(program)] >= rule_of(Symptom.NO_WAY_THROUGH).window.samples:
                return Symptom.NO_WAY_THROUGH
        return None

    def forget(self, program: str) -> None:
        """It is another process now."""
        with self._lock:
            self._failures.pop(program, None)
            self._lost.pop(program_of(program), None)

    def facts(self) -> dict[str, Fact]:
        """For heartbeat and incident: seconds of dialogues and of a message's way, and what went wrong last."""
        with self._lock:
            seconds: dict[str, Fact] = {f"{name}_seconds": round(each, 4) for name, each in self._seconds.items()}
            return seconds | {f"{name}_failed": why for name, why in self._whys.items()}

    def _run(self) -> None:
        started = time.monotonic()
        settings = self._config.health
        next_dialogue = started
        next_message = started + min(FIRST_MESSAGE, settings.message_interval)
        while True:
            now = time.monotonic()
            try:
                if now >= next_dialogue:
                    next_dialogue = now + settings.probe_interval
                    for program in GREETING:
                        self._greet_all(program)
                if settings.message_interval and now >= next_message:
                    next_message = now + settings.message_interval
                    self._send_message()
            except Exception:  # a fault of ours here must not end the probing for good
                logger.exception("a probe broke off")
            time.sleep(min(POLL, settings.probe_interval))

    def _greet_all(self, program: str) -> None:
        where, at_work = dialogues.door(self._config, program), self._at_work(program)
        if where is None or not at_work:
            self.forget(program)
            return
        for process in at_work:
            self._greet(process, where)

    def _greet(self, program: str, where: Door) -> None:
        """Of several processes each has a door of its own: at the port any of them may answer."""
        if is_copy(program):
            where = dialogues.own_door(self._config, program)
        began = time.monotonic()
        try:
            dialogues.greet(where, program_of(program), self._config.health.probe_timeout)
        except OSError as error:
            self._note_failure(self._failures, program, "dialogue", str(error))
        else:
            self._note(self._failures, program, program, time.monotonic() - began)

    def _send_message(self) -> None:
        """The one at fault is the one that does not do its part, unless it is busy with other work."""
        config, password = self._config, password_in(self._config.probe)
        smtp = dialogues.door(config, "smtp")
        pop3 = dialogues.door(config, "pop3", for_password=True)
        is_up = all(self._at_work(each) for each in ("smtp", "delivery", "pop3"))
        if not password or smtp is None or smtp.is_tls or pop3 is None or not is_up:
            return
        mailbox, timeout = str(mailbox_of(config)), config.health.probe_timeout
        content = f"From: <{mailbox}>\r\nTo: <{mailbox}>\r\nSubject: probe\r\nAuto-Submitted: auto-generated\r\n\r\n."
        try:
            said = dialogues.send(smtp, config.hostname, mailbox, content, timeout)
        except (OSError, RefusedError) as error:
            self._judge_message("smtp", str(error), is_refusal=isinstance(error, RefusedError))
            return
        began, found = time.monotonic(), _QUEUED.search(said)
        wanted = found.group(1) if found else ""
        before, pause = self._progress("delivery"), FIRST_LOOK
        while time.monotonic() - began < rule_of(Symptom.NO_WAY_THROUGH).bound(config.health):
            time.sleep(pause)
            pause = min(LAST_LOOK, pause * 2)
            try:
                if dialogues.fetch(pop3, mailbox, password, wanted, timeout):
                    self._note(self._lost, "delivery", "way", time.monotonic() - began)
                    self._lost.clear()
                    return
            except (OSError, RefusedError) as error:
                self._judge_message("pop3", str(error), is_refusal=isinstance(error, RefusedError))
                return
        if self._progress("delivery") == before:
            self._judge_message("delivery", "the message has not come", is_refusal=False)

    def _judge_message(self, program: str, why: str, *, is_refusal: bool) -> None:
        """A refusal (a full disk, a mailbox in use) is an answer: told, and no reason for a restart."""
        if is_refusal:
            with self._lock:
                self._whys["way"] = f"{program}: {why}"
        else:
            self._note_failure(self._lost, program, "message", why)

    def _note(self, counter: Counter[str], program: str, what: str, seconds: float) -> None:
        with self._lock:
            counter.pop(program, None)
            self._whys.pop(what, None)
            self._seconds[what] = seconds

    def _note_failure(self, counter: Counter[str], program: str, kind: str, why: str) -> None:
        logger.warning("%s: a %s failed: %s", program, kind, why)
        with self._lock:
            counter[program] += 1
            self._whys[program if kind == "dialogue" else "way"] = f"{program}: {why}"
