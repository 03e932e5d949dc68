"""Stopping, starting, restarting and killing the programs while mail flows."""

import contextlib
import os
import signal
import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.instance import USER, Instance, wait_until

MESSAGE = b"From: alice@example.org\r\nTo: admin@localhost\r\nSubject: x\r\n\r\nbody\r\n"


def test_stop_smtp_closes_the_port_within_two_seconds_and_dropped_files_still_arrive(instance: Instance) -> None:
    instance.supervisorctl("stop", "smtp")
    wait_until(lambda: not instance.is_open(instance.smtp_port), "the port is closed", patience=2)
    instance.drop("message.eml", MESSAGE)
    instance.wait_delivered(1)
    instance.supervisorctl("start", "smtp")
    instance.send(MESSAGE)
    instance.wait_delivered(2)


def test_stop_delivery_queues_and_start_delivers(instance: Instance) -> None:
    instance.supervisorctl("stop", "delivery")
    for _ in range(5):
        instance.send(MESSAGE)
    instance.drop("message.eml", MESSAGE)
    assert instance.status()["entries"]["new"] == 5
    assert instance.delivered() == []
    instance.supervisorctl("start", "delivery")
    assert len(instance.wait_delivered(6)) == 6


def test_stop_pop3_harms_nobody_else(instance: Instance) -> None:
    instance.supervisorctl("stop", "pop3")
    instance.send(MESSAGE)
    instance.wait_delivered(1)
    wait_until(lambda: not instance.is_open(instance.pop3_port), "the port is closed", patience=2)
    assert instance.mailsrv("status").returncode == 0  # stopped by a person is well
    instance.supervisorctl("start", "pop3")
    assert len(instance.fetch()) == 1


def test_a_signal_that_tells_of_a_broken_lease_ends_no_program(instance: Instance) -> None:
    """The kernel sends it where somebody opens a file in the moment in which a program asks who else has it open."""
    programs = ("smtp", "delivery", "pop3", "relay", "health")
    pids = {program: instance.pid(program) for program in programs}
    for pid in pids.values():
        os.kill(pid, signal.SIGIO)
    instance.send(MESSAGE)
    assert len(instance.wait_delivered(1)) == 1
    assert {program: instance.pid(program) for program in programs} == pids


class _Sender(threading.Thread):
    """Opens a connection and sends a message every 10 ms, and remembers what came of each."""

    def __init__(self, instance: Instance) -> None:
        super().__init__()
        self.outcomes: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self._instance = instance
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        threads = []
        number = 0
        while not self._stopping.wait(0.01):
            number += 1
            threads.append(threading.Thread(target=self._send, args=(str(number),)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _send(self, number: str) -> None:
        try:
            self._instance.send(f"Subject: {number}\r\n\r\nbody\r\n".encode())
            outcome = "acknowledged"
        except ConnectionRefusedError:
            outcome = "refused"
        except (smtplib.SMTPException, OSError) as error:
            outcome = type(error).__name__
        with self._lock:
            self.outcomes[outcome] += 1
            if outcome == "acknowledged":
                self.acknowledged.append(number)


@pytest.mark.timeout(170)
def test_restarts_and_kills_of_smtp_refuse_no_connection_and_lose_or_double_no_message(instance: Instance) -> None:
    sender = _Sender(instance)
    sender.start()
    for _ in range(20):
        instance.supervisorctl("restart", "smtp")
    for _ in range(10):
        instance.wait_until_running("smtp")
        instance.kill("smtp")
    instance.wait_until_running("smtp")
    sender.stop()
    assert sender.outcomes["refused"] == 0, sender.outcomes
    assert sender.outcomes["acknowledged"] > 1000, sender.outcomes
    wait_until(lambda: instance.status()["entries"]["new"] == 0, "everything is decided")
    subjects = Counter(_subject(message) for message in instance.delivered())
    assert set(sender.acknowledged) - set(subjects) == set()
    assert [subject for subject, number in subjects.items() if number > 1] == []


def _subject(message: bytes) -> str:
    return message.partition(b"Subject: ")[2].partition(b"\n")[0].decode()


def test_kills_of_delivery_lose_and_double_nothing(instance: Instance) -> None:
    sender = _Sender(instance)
    sender.start()
    for _ in range(6):
        instance.wait_until_running("delivery")
        instance.kill("delivery")
    instance.wait_until_running("delivery")
    sender.stop()
    wait_until(lambda: instance.status()["entries"]["new"] == 0, "everything is decided")
    subjects = Counter(_subject(message) for message in instance.delivered())
    assert subjects == Counter(sender.acknowledged)
    audited = instance.mailsrv("audit")
    assert audited.returncode == 0, audited.stdout


def test_a_spinning_process_is_restarted_with_an_incident_that_names_the_line(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(drill__hooks=True, health__interval=0.2, health__cpu_limit=10)
    for program in ("smtp", "delivery"):
        pid = instance.pid(program)
        instance.supervisorctl("signal", "USR2", program)
        wait_until(lambda program=program, pid=pid: instance.pid(program) not in (0, pid), f"{program} is new")  # type: ignore[misc]
        (incident,) = (instance.root / "var" / "incidents").glob(f"*-{program}")
        stacks = (incident / "stacks.txt").read_text()
        line = _line_of_spinning()
        assert f'faults.py", line {line} in _spin' in stacks or f'faults.py", line {line + 1} in _spin' in stacks
    instance.send(MESSAGE)
    instance.wait_delivered(1)
    assert instance.status()["incidents"] == 2


def _line_of_spinning() -> int:
    source = Path(__file__).parents[2] / "mailsrv" / "daemon" / "faults.py"
    lines = source.read_text().splitlines()
    return lines.index("    while True:") + 1


def test_a_process_that_is_busy_with_real_work_is_not_restarted(make_instance: Callable[..., Instance]) -> None:
    # A limit that real work exceeds even on a fast machine: so every sample of it is "too high".
    instance = make_instance(health__interval=0.2, health__cpu_limit=1)
    pids = {program: instance.pid(program) for program in ("smtp", "delivery")}
    deadline = time.monotonic() + 6
    with smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=20) as client:
        while time.monotonic() < deadline:
            client.sendmail("alice@example.org", [USER], MESSAGE)
    assert {program: instance.pid(program) for program in pids} == pids
    assert _restarts(instance) == 0


def _restarts(instance: Instance) -> int:
    (health,) = [program for program in instance.status()["programs"] if program["name"] == "health"]
    return int(health["facts"]["restarts"])


def test_a_killed_health_is_replaced_and_keeps_the_sockets_again(instance: Instance) -> None:
    instance.kill("health")
    instance.wait_until_running("health")

    def kept() -> list[str]:
        (health,) = [each for each in instance.status()["programs"] if each["name"] == "health"]
        sockets: list[str] = health["facts"].get("sockets", [])
        return sorted(socket.split()[0] for socket in sockets)

    wait_until(lambda: kept() == ["pop3", "pop3s", "smtp", "submission", "submissions"], "the sockets are borrowed")
    instance.kill("smtp")
    instance.send(MESSAGE)  # waits in the kernel's queue, at the socket that health keeps
    instance.wait_delivered(1)


def test_when_supervisord_is_killed_the_programs_end_and_up_starts_anew(instance: Instance) -> None:
    pids = [instance.pid(program) for program in ("smtp", "delivery", "pop3", "health")]
    os.kill(int((instance.root / "var" / "supervisor" / "supervisord.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all programs have ended")
    instance.up()
    instance.send(MESSAGE)
    instance.wait_delivered(1)


def test_a_transaction_under_way_is_finished_when_smtp_is_restarted(instance: Instance) -> None:
    with smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=20) as client:
        client.ehlo()
        client.mail("alice@example.org")
        client.rcpt(USER)
        client.putcmd("data")
        assert client.getreply()[0] == 354
        restart = threading.Thread(target=instance.supervisorctl, args=("restart", "smtp"))
        restart.start()
        wait_until(lambda: "STOPPING" in instance.supervisorctl("status", "smtp"), "smtp is stopping")
        client.send(MESSAGE + b".\r\n")
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        restart.join()
    instance.wait_delivered(1)


def test_a_client_that_asks_and_never_reads_costs_little_and_stops_nobody(instance: Instance) -> None:
    with socket.create_connection(("127.0.0.1", instance.smtp_port)) as client:
        client.setblocking(False)
        before = peak_memory(instance)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 50_000_000:
                sent += client.send(b"HELP\r\n" * 10_000)
        instance.send(MESSAGE)
        instance.wait_delivered(1)
        assert peak_memory(instance) - before < 20_000


def peak_memory(instance: Instance) -> int:
    """The most that smtp has ever had in memory, in kB."""
    status = Path(f"/proc/{instance.pid('smtp')}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
