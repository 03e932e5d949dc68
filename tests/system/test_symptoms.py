"""More rows of the table of docs/HEALTH.md, and that none of them is without a test."""

import contextlib
import http.client
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsrv.work.symptoms import RULES, Symptom
from mailsrv.work.trend import rise
from tests.system import test_health
from tests.system.healing import MADE, MESSAGE, QUICK, facts, incidents, makes, suffer, wait_healed, works
from tests.system.instance import Instance, wait_until
from tests.work.relaying import Server, serving

FAR = MESSAGE.replace(b"admin@localhost", b"dave@elsewhere.example")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def test_every_row_of_the_table_has_a_test_that_makes_its_symptom_real() -> None:
    assert set(MADE) == {rule.symptom for rule in RULES}
    assert all(hasattr(test_health, name) or name in globals() for names in MADE.values() for name in names)


@makes(Symptom.BUSY_TOO_LONG)
def test_something_that_takes_a_core_beside_the_work_is_ended_once_the_work_is_done(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(**{**QUICK, "smtp__drain_seconds": 12}, health__cpu_limit=12, health__busy_limit=3)
    for _ in range(40):  # its pace, as it should be
        instance.send(MESSAGE)
    pid = suffer(instance, "smtp", "climb 1")  # a thread takes 60 % of a core, and the main loop goes on
    stopping = threading.Event()
    sent = 40

    def trickle() -> None:
        nonlocal sent
        while not stopping.wait(0.6):
            instance.send(MESSAGE)
            sent += 1

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        found = wait_healed(instance, "smtp", pid, "busy too long", patience=90)
    finally:
        stopping.set()
        thread.join()
    progress = [each["progress"] for each in found["samples"]]
    assert progress[0] < progress[-1]
    assert len(instance.wait_delivered(sent)) == sent


@makes(Symptom.MEMORY_SLOWLY, Symptom.DESCRIPTORS_SLOWLY, Symptom.THREADS_SLOWLY)
def test_what_leaks_slowly_is_seen_before_any_limit_is_reached(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(
        **{**QUICK, "health__interval": 0.1},
        health__trend_hour=0.35,
        health__memory_trend=30,
        health__descriptor_trend=25,
        health__thread_trend=25,
        health__trend_limit=1000,
    )
    limits = {"memory": 100_000_000, "descriptors": 100, "threads": 100}
    ill = {
        kind: suffer(instance, program, f"drip-{kind}")
        for kind, program in (("memory", "smtp"), ("descriptors", "pop3"), ("threads", "relay"))
    }
    for (kind, pid), program in zip(ill.items(), ("smtp", "pop3", "relay"), strict=True):
        found = wait_healed(instance, program, pid, f"{kind} climb", patience=60)  # descriptors climb, memory climbs
        assert found["symptom"].endswith("slowly")
        assert found["samples"][-1][kind] < limits[kind] * 2
        assert len(found["trend"]) >= 24
        assert rise([(hour, value) for hour, value in found["trend"]]) >= 25
    assert works(instance)


@makes(Symptom.WATCH_DEAD)
@pytest.mark.parametrize("program", ["delivery", "relay"])
def test_dead_threads_and_silent_ones_are_watched_anew_without_a_restart(
    make_instance: Callable[..., Instance], server: Server, program: str
) -> None:
    """Each part that events come by dies, or all live and bring nothing."""
    instance = make_instance(**QUICK, delivery__scan_interval=1)
    assert instance.mailsrv("relay", "smarthost", server.place).returncode == 0
    instance.mailsrv("restart", "relay")
    pid = 0
    for times, part in enumerate(("observer", "emitter", "reader", "silence"), 1):
        pid = suffer(instance, program, part)
        wait_until(lambda n=times: facts(instance, program).get("watched_anew") == n, f"{part}: watches anew")  # type: ignore[misc]
        wait_until(lambda n=times: len(incidents(instance, "file events are dead", program)) == n, "it is kept")  # type: ignore[misc]
    folder = instance.spool / ("remote" if program == "relay" else "new")
    status = folder.stat()
    folder.rename(instance.spool / "moved")  # by hand: the kernel goes on telling of the old one
    folder.mkdir(mode=0o700)
    os.chown(folder, status.st_uid, status.st_gid)
    wait_until(lambda: facts(instance, program).get("watched_anew") == 5, "a folder in its place: watches anew")
    instance.drop("here.eml", MESSAGE)
    instance.drop("far.eml", FAR)
    instance.wait_delivered(1)
    wait_until(lambda: server.taken, "mail is sent on")
    assert instance.pid(program) == pid


def _read_all(path: Path, stopping: threading.Event) -> None:
    """Ask supervisord as fast as it answers."""
    call = b"<methodCall><methodName>supervisor.getAllProcessInfo</methodName></methodCall>"
    head = b"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n" % len(call)
    while not stopping.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(head + call)
            while client.recv(65536):
                pass


@makes(Symptom.SUPERVISORD)
def test_a_supervisord_that_takes_a_core_is_reported_and_restarts_nothing(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(**QUICK, health__cpu_limit=20, health__busy_limit=1000)
    pids = {program: instance.pid(program) for program in ("smtp", "delivery", "pop3", "relay", "health")}
    stopping = threading.Event()
    path = instance.root / "var" / "supervisor" / "supervisor.sock"
    threads = [threading.Thread(target=_read_all, args=(path, stopping)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: incidents(instance, "supervisord is busy or large"), "it is kept as an incident")
        wait_until(lambda: any("supervisord is busy" in each for each in instance.status()["problems"]), "it is shown")
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    wait_until(lambda: instance.status()["is_well"], "it is well again")
    assert facts(instance, "health")["supervisord_cpu"] < 20
    assert {program: instance.pid(program) for program in pids} == pids


@makes(Symptom.SUPERVISORD)
def test_a_supervisord_that_is_large_is_reported(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(**QUICK, health__memory_limit=150)
    path = instance.root / "var" / "supervisor" / "supervisor.sock"
    octets = 200_000_000
    with socket.socket(socket.AF_UNIX) as client:  # it keeps a request until it is whole
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (octets + 1))
        piece = b"x" * 1_000_000
        for _ in range(octets // len(piece)):
            client.sendall(piece)
        wait_until(lambda: incidents(instance, "supervisord is busy or large"), "it is kept as an incident")
        assert facts(instance, "health")["supervisord_mb"] > 150
    assert works(instance)


@makes(Symptom.HEALTH)
def test_a_health_that_supervisord_has_given_up_is_started_by_delivery(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(**QUICK, health__beat_limit=2, health__slow_clock=1)
    instance.down()
    conf = instance.root / "supervisord.conf"
    text = conf.read_text().replace("startretries=10000", "startretries=0").replace("startsecs=1", "startsecs=5")
    conf.write_text(text)
    instance.up()
    toml = instance.root / "mailsrv.toml"
    good = toml.read_text()
    toml.write_text("nonsense")
    instance.kill("health")
    wait_until(lambda: "FATAL" in instance.supervisorctl("status", "health"), "it is given up", 40)
    toml.write_text(good)
    wait_until(lambda: "RUNNING" in instance.supervisorctl("status", "health"), "delivery has started it", 40)
    assert facts(instance, "delivery")["health_replaced"] >= 1


def test_a_relay_that_is_killed_or_hangs_with_mail_in_hand_sends_it_all_the_same(
    make_instance: Callable[..., Instance], server: Server
) -> None:
    instance = make_instance(**QUICK, health__beat_limit=2, delivery__retry_after=[1])
    assert instance.mailsrv("relay", "smarthost", server.place).returncode == 0
    instance.mailsrv("restart", "relay")
    for number, fault in enumerate((signal.SIGKILL, signal.SIGSTOP)):
        instance.wait_until_running("relay")
        pid = instance.pid("relay")
        os.kill(pid, fault)
        instance.drop(f"{number}.eml", FAR.replace(b"dave", f"u{number}".encode()))
        wait_until(lambda n=number: [f"u{n}"] in [to for _, to, _ in server.taken], "it is sent", 40)  # type: ignore[misc]
    wait_healed(instance, "relay", pid, "no heartbeat")
    assert instance.mailsrv("audit").returncode == 0
