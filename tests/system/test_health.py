"""Each row of the table of docs/HEALTH.md, its symptom made for real, under the real supervisord."""

import contextlib
import os
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mailsrv.work.symptoms import Symptom
from mailsrv.work.trend import rise
from tests.system.healing import MESSAGE, QUICK, facts, incidents, makes, suffer, wait_healed, works
from tests.system.instance import USER, Instance, wait_until
from tests.work.relaying import serving


@makes(Symptom.MEMORY, Symptom.DESCRIPTORS, Symptom.THREADS)
def test_what_leaks_is_restarted_and_finishes_first_what_it_has_begun(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(
        **{**QUICK, "smtp__drain_seconds": 12},
        health__memory_limit=250,
        health__descriptor_limit=150,
        health__thread_limit=60,
    )
    with contextlib.closing(smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=20)) as client:
        client.ehlo()
        client.mail("alice@example.org")
        client.rcpt(USER)
        client.putcmd("data")
        assert client.getreply()[0] == 354
        smtp = suffer(instance, "smtp", "descriptors")
        pop3 = suffer(instance, "pop3", "threads")
        kept = instance.root / "var" / "incidents"
        wait_until(lambda: list(kept.glob("*-smtp/incident.json")), "smtp is asked to end")
        client.send(MESSAGE + b".\r\n")
        assert client.getreply()[0] == 250
    found = wait_healed(instance, "smtp", smtp, "descriptors climb")
    assert sum("/dev/null" in each for each in found["open_files"]) > 150
    assert [each for each in found["steps"] if each.endswith("RecipientOffered")]
    assert found["samples"][-1]["descriptors"] > 150
    wait_healed(instance, "pop3", pop3, "threads climb")
    delivery = suffer(instance, "delivery", "memory 400")
    found = wait_healed(instance, "delivery", delivery, "memory climbs")
    assert found["samples"][0]["memory"] > 250_000_000
    assert len(instance.wait_delivered(1)) == 1
    assert works(instance)


@makes(Symptom.CLIMBING)
def test_cpu_use_that_climbs_slowly_is_seen_before_any_limit_is_reached(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(**{**QUICK, "health__interval": 0.15}, health__trend_hour=0.6, health__cpu_limit=5000)
    pid = suffer(instance, "pop3", "climb 20")
    found = wait_healed(instance, "pop3", pid, "CPU climbs", patience=60)
    assert rise([(hour, cpu) for hour, cpu in found["trend"]]) >= 10
    assert len(found["trend"]) >= 24
    assert (instance.root / "var" / "run" / "health.trend").exists()


@makes(Symptom.STALE)
@pytest.mark.parametrize("program", ["smtp", "delivery", "pop3", "relay"])
def test_a_program_that_hangs_is_replaced(make_instance: Callable[..., Instance], program: str) -> None:
    instance = make_instance(**QUICK, health__beat_limit=2)
    instance.wait_until_running(program)
    pid = instance.pid(program)
    os.kill(pid, signal.SIGSTOP)
    found = wait_healed(instance, program, pid, "no heartbeat")
    assert found["beat_age"] > 2
    assert works(instance)
    pid = suffer(instance, program, "hang")  # in a function that never returns; its stacks tell which
    found = wait_healed(instance, program, pid, "no heartbeat")
    assert "in _hang" in found["stacks"]
    assert works(instance)


@makes(Symptom.NO_ANSWER)
def test_a_program_that_answers_no_client_is_restarted_though_its_heart_beats(
    make_instance: Callable[..., Instance],
) -> None:
    # It tries again and again to let somebody in: that is not what it is to be restarted for here.
    instance = make_instance(**QUICK, health__cpu_limit=1000, health__probe_interval=0.5, health__probe_timeout=2)
    wait_until(lambda: "smtp_seconds" in facts(instance, "health"), "a dialogue was held")
    for program in ("smtp", "pop3"):
        pid = suffer(instance, program, "limit 8")  # no more descriptors: nobody is let in
        found = wait_healed(instance, program, pid, "does not answer")
        assert found["beat_age"] < 5
        assert f"{program}_failed" in found["probes"]
    assert works(instance)


@makes(Symptom.STRANDED)
def test_a_delivery_that_strands_mail_is_restarted(make_instance: Callable[..., Instance]) -> None:
    # It does nothing at all, and only the mail that lies there is to tell.
    instance = make_instance(**QUICK, health__beat_limit=1000, health__stranded_limit=2)
    pid = instance.pid("delivery")
    os.kill(pid, signal.SIGSTOP)
    instance.send(MESSAGE)
    wait_healed(instance, "delivery", pid, "mail stranded")
    assert len(instance.wait_delivered(1)) == 1


@makes(Symptom.NO_WAY_THROUGH)
def test_a_message_to_ourselves_is_timed_and_removed_and_the_program_that_keeps_it_is_restarted(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(
        **{**QUICK, "health__message_interval": 1}, health__message_timeout=2, health__beat_limit=1000
    )
    seconds: float = wait_until(lambda: facts(instance, "health").get("way_seconds", 0.0), "a message has come back")
    assert seconds < 10
    probe = instance.root / "var" / "mail" / "localhost" / "mailsrv-probe"
    wait_until(lambda: not list(probe.glob("*/*")), "it was removed")
    pid = instance.pid("delivery")
    os.kill(pid, signal.SIGSTOP)
    found = wait_healed(instance, "delivery", pid, "does not come through")
    assert "delivery: the message has not come" in found["probes"]["way_failed"]
    assert instance.mailsrv("audit").returncode == 0


@makes(Symptom.EXITED, Symptom.BACKOFF, Symptom.FATAL)
def test_a_program_that_cannot_start_is_tried_again_for_ever(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(**QUICK, health__slow_clock=1)
    conf = instance.root / "supervisord.conf"
    instance.down()
    # On a slow machine Python takes more than a second to find out that it cannot start.
    conf.write_text(conf.read_text().replace("startretries=20", "startretries=1").replace("startsecs=1", "startsecs=5"))
    instance.up()
    instance.wait_until_running("pop3")
    toml = instance.root / "mailsrv.toml"
    good = toml.read_text()
    toml.write_text("nonsense")
    instance.kill("pop3")
    wait_until(lambda: incidents(instance, "ended by accident", "pop3"), "its end was seen")
    wait_until(lambda: incidents(instance, "does not start", "pop3"), "that it does not start was seen")
    wait_until(lambda: len(incidents(instance, "given up", "pop3")) >= 2, "it was tried again, twice", patience=60)
    toml.write_text(good)
    instance.wait_until_running("pop3")
    letter = instance.wait_delivered(1)[0]
    assert b"Subject: pop3: given up by supervisord" in letter
    assert len(instance.delivered()) == 1  # once


@makes(Symptom.STOPPED)
def test_what_a_person_has_stopped_stays_so_and_is_shown_as_such(instance: Instance) -> None:
    instance.supervisorctl("stop", "pop3")
    before = facts(instance, "health")["restarts"]
    rounds = time.monotonic() + 6
    wait_until(lambda: time.monotonic() > rounds, "a round of health has gone by")
    status = instance.status()
    assert status["stopped"] == ["pop3"]
    assert status["is_well"]
    assert "STOPPED by a person" in instance.mailsrv("status").stdout
    assert facts(instance, "health")["restarts"] == before
    instance.supervisorctl("start", "pop3")


@makes(Symptom.HEALTH)
@pytest.mark.parametrize("how", ["stopped", "hung"])
def test_delivery_replaces_a_silent_health_which_borrows_the_sockets_again(
    make_instance: Callable[..., Instance], how: str
) -> None:
    instance = make_instance(**QUICK, health__beat_limit=2)
    pid = instance.pid("health")
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    else:
        suffer(instance, "health", "hang")
    wait_until(lambda: instance.pid("health") not in (0, pid), "health is new")
    wait_until(lambda: len(facts(instance, "health").get("sockets", [])) == 5, "the sockets are borrowed again")
    assert incidents(instance, "health is silent", "health")
    instance.kill("smtp")
    assert works(instance)  # the connection waited at the sockets that the new health keeps


@makes(Symptom.SPINNING)
def test_the_same_symptom_again_takes_the_neighbours_and_then_tells_postmaster_while_smtp_is_down(
    make_instance: Callable[..., Instance],
) -> None:
    # While its restart is held back it spins on, without a heartbeat: that is not what it is to be restarted for here.
    instance = make_instance(**QUICK, health__cpu_limit=10, health__beat_limit=1000)
    instance.supervisorctl("stop", "smtp")
    steps = []
    for _ in range(3):
        pid, delivery = instance.pid("pop3"), instance.pid("delivery")
        suffer(instance, "pop3", "spin")
        steps.append(wait_healed(instance, "pop3", pid, "spinning")["step"])
        if steps[-1] == "neighbours":
            wait_until(lambda old=delivery: instance.pid("delivery") not in (0, old), "so is delivery")  # type: ignore[misc]
            instance.wait_until_running("delivery")
    assert steps == ["process", "neighbours", "loud"]
    assert b"Subject: pop3: spinning" in instance.wait_delivered(1)[0]
    assert "STOPPED" in instance.supervisorctl("status", "smtp")  # a neighbour that a person stopped stays so


@pytest.fixture
def service_manager(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What a service manager listens at."""
    path = place / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        place.chmod(0o711)
        listener.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listener


def test_the_service_manager_is_told_every_second_until_supervisord_answers_no_more(
    service_manager: socket.socket, make_instance: Callable[..., Instance]
) -> None:
    instance = make_instance(**QUICK)
    assert service_manager.recv(1000) == b"READY=1"
    for _ in range(3):
        assert service_manager.recv(1000) == b"WATCHDOG=1"
    pid = int((instance.root / "var" / "supervisor" / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        service_manager.settimeout(5)
        with contextlib.suppress(TimeoutError):
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                assert service_manager.recv(1000) == b"WATCHDOG=1"
        assert time.monotonic() < deadline, "it goes on saying that all is well"
        wait_until(lambda: incidents(instance, "supervisord is busy or large"), "it is kept as an incident")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: service_manager.recv(1000) == b"WATCHDOG=1", "it is well again")


def test_an_hour_of_hard_work_restarts_nothing(make_instance: Callable[..., Instance]) -> None:
    """By a clock that is 150 times as fast: samples, limits, hours of the trend. Every core is busy with mail."""
    faster = 150
    instance = make_instance(
        drill__hooks=True,
        health__interval=5 / faster,
        health__busy_limit=600 / faster,
        health__stranded_limit=3,  # heartbeats are no faster
        health__trend_hour=3600 / faster / 30,  # there are thirty of them
        health__probe_interval=30 / faster,
        health__message_interval=900 / faster,
        health__cpu_limit=15,  # four programs and the test share two cores
        relay__max_connections=100,
        relay__max_connections_per_destination=100,
        delivery__scan_interval=1,
    )
    with serving() as server:
        done = instance.mailsrv("relay", "smarthost", server.place)
        assert done.returncode == 0, done.stderr
        instance.mailsrv("restart", "relay")
        wait_until(lambda: facts(instance, "health").get("smtp_seconds"), "health is at work")
        before = facts(instance, "health")["restarts"]
        pids = {program: instance.pid(program) for program in ("smtp", "delivery", "pop3", "relay", "health")}
        with _hard_work(instance):
            work = time.monotonic() + 3600 / faster
            highest = 0.0
            while time.monotonic() < work:
                with contextlib.suppress(psutil.Error):  # it was restarted
                    highest = max(highest, *(psutil.Process(pid).cpu_percent(0.1) for pid in pids.values()))
        wait_until(lambda: server.taken, "mail was sent on")
        # supervisord is asked 150 times as often as well, and has a tenth of a second to answer; nothing restarts it.
        kept = {each["symptom"] for each in incidents(instance)} - {Symptom.SUPERVISORD.value}
        assert kept == set()
        assert {program: instance.pid(program) for program in pids} == pids
        assert facts(instance, "health")["restarts"] == before
        assert highest > 15, "the work was not hard"


@contextlib.contextmanager
def _hard_work(instance: Instance) -> Iterator[None]:
    """Mail by SMTP, small and large, by files, to elsewhere, and read again and again."""
    stopping = threading.Event()

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", instance.smtp_port, timeout=60) as client:
            while not stopping.is_set():
                for lines in (2, 200, 20_000):
                    client.sendmail("alice@example.org", [USER], MESSAGE + (b"x" * 70 + b"\r\n") * lines)

    def drop() -> None:
        number = 0
        while not stopping.wait(0.005):
            number += 1
            to = f"u{number}@elsewhere.example".encode() if number % 2 else USER.encode()
            (instance.spool / f"{number}.eml").write_bytes(MESSAGE.replace(USER.encode(), to))

    def read() -> None:
        while not stopping.is_set():
            with contextlib.suppress(Exception):  # the mailbox may be in use
                instance.fetch(delete=True)

    threads = [threading.Thread(target=each) for each in (send, send, send, drop, read)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
