"""Several processes of smtp and pop3 share their sockets: one may die, or be restarted, and nobody is refused."""

import contextlib
import os
import poplib
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.system.instance import PATIENCE, USER, Instance, wait_until

SMTP = ("smtp_00", "smtp_01")
POP3 = ("pop3_00", "pop3_01")
MESSAGE = b"From: <alice@example.org>\r\nSubject: %d\r\n\r\nText.\r\n"


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    settings: dict[str, object] = {
        "health__probe_interval": 1,
        "health__interval": 1,
        "health__beat_limit": 5,
        "logins__never_banned": [],
        "logins__delay": 0,
        "logins__ban_after": 4,
    }
    made = Instance.create(tmp_path_factory.mktemp("several") / "instance", settings, "--processes", "2")
    made.mailsrv("up", "--detach")  # of so many, one may take longer than it waits for
    try:
        wait_until(lambda: made.status()["is_well"] and len(rows(made)) == 7, "all is well", 3 * PATIENCE)
        yield made
    finally:
        made.down()


def rows(instance: Instance) -> dict[str, dict[str, int]]:
    """The programs of `mailsrv status`, by name."""
    return {row["name"]: row for row in instance.status()["programs"]}


def is_in_log(instance: Instance, name: str) -> bool:
    return f"{name} INFO started" in instance.log(name)


def pid(instance: Instance, process: str) -> int:
    return instance.pid(f"{process.partition('_')[0]}:{process}")


class Callers:
    """Clients that connect to a port again and again, and count who is not greeted."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.greeted = 0
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self) -> None:
        wanted = self.greeted + 30
        wait_until(lambda: self.greeted >= wanted, "clients are greeted")

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE) as client:
                    assert client.recv(100)[:3] in (b"220", b"+OK")
                    self.greeted += 1
            except ConnectionRefusedError as error:
                self.failed.append(str(error))
            except (OSError, AssertionError):  # it was killed while we talked: that is not refused
                continue


def test_each_process_is_shown_with_a_heartbeat_and_a_log_of_its_own(instance: Instance) -> None:
    shown = rows(instance)
    assert {*SMTP, *POP3, "delivery", "relay", "health"} == set(shown)
    assert len({shown[name]["pid"] for name in (*SMTP, *POP3)}) == 4
    for name in (*SMTP, *POP3):
        assert (instance.root / "var" / "run" / f"{name}.beat").exists()
        wait_until(partial(is_in_log, instance, name), f"{name} has said that it has started")


def test_both_processes_serve_the_port(instance: Instance) -> None:
    def served(name: str) -> int:
        return int(rows(instance)[name]["facts"].get("accepted", 0))  # type: ignore[attr-defined]

    before = len(list(instance.new_mail.iterdir()))
    number = 0

    def both() -> bool:
        nonlocal number
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(smtplib.SMTP("127.0.0.1", instance.smtp_port)) for _ in range(10)]
            for client in clients:
                client.sendmail("alice@example.org", [USER], MESSAGE % number)
                number += 1
        return all(served(name) for name in SMTP)

    wait_until(both, "both have accepted mail")
    instance.wait_delivered(before + number)
    done = wait_until(lambda: instance.mailsrv("audit"), "an audit")
    assert done.returncode == 0, done.stdout
    ledger = instance.root / "var" / "log" / "ledger"
    assert set(SMTP) <= {path.name.partition("-")[0] for path in ledger.glob("*.jsonl")}  # no file of two writers


@pytest.mark.parametrize("process", [SMTP[0], SMTP[1], POP3[0]])
def test_while_one_is_killed_the_others_serve(instance: Instance, process: str) -> None:
    port = instance.smtp_port if process in SMTP else instance.pop3_port
    before = pid(instance, process)
    with Callers(port) as callers:
        callers.wait_for_more()
        instance.kill(f"{process.partition('_')[0]}:{process}")
        callers.wait_for_more()
        wait_until(lambda: pid(instance, process) not in (0, before), f"{process} is back")
        callers.wait_for_more()
    assert callers.failed == []


@pytest.mark.parametrize("words", [("smtp",), ("smtp_01",), ("pop3",)])
def test_a_restart_refuses_nobody(instance: Instance, words: tuple[str, ...]) -> None:
    named = [each for each in (*SMTP, *POP3) if each.startswith(words[0])]
    before = {each: pid(instance, each) for each in (*SMTP, *POP3)}
    with Callers(instance.smtp_port if words[0] != "pop3" else instance.pop3_port) as callers:
        callers.wait_for_more()
        done = instance.mailsrv("restart", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        callers.wait_for_more()
    assert callers.failed == []
    changed = [each for each in before if pid(instance, each) != before[each]]
    assert changed == named


def test_each_is_probed_at_a_door_of_its_own(instance: Instance) -> None:
    """At the port another would answer for one that hangs."""
    wait_until(lambda: rows(instance)["health"]["facts"].get("smtp_01_seconds"), "it is probed")  # type: ignore[attr-defined]
    doors = sorted(path.name for path in (instance.root / "var" / "run").glob("*.door"))
    assert doors == [f"{name}.door" for name in (*POP3, *SMTP)]


def test_one_that_hangs_is_restarted_and_named_and_the_other_is_left_alone(instance: Instance) -> None:
    before = {each: pid(instance, each) for each in SMTP}
    os.kill(before["smtp_01"], signal.SIGSTOP)
    wait_until(lambda: pid(instance, "smtp_01") not in (0, before["smtp_01"]), "smtp_01 is back", 3 * PATIENCE)
    assert pid(instance, "smtp_00") == before["smtp_00"]
    kept = [path.name for path in (instance.root / "var" / "incidents").iterdir()]
    assert any(name.endswith("-smtp_01") for name in kept), kept
    wait_until(lambda: instance.status()["is_well"], "all is well again", 2 * PATIENCE)


def test_one_that_is_stopped_leaves_the_port_open_and_all_of_them_close_it(instance: Instance) -> None:
    def is_open() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", instance.pop3_port)) == 0

    instance.supervisorctl("stop", "pop3:pop3_00")
    time.sleep(2.5)  # longer than the sockets of a stopped process are kept
    assert is_open()
    assert poplib.POP3("127.0.0.1", instance.pop3_port, timeout=PATIENCE).quit()
    instance.supervisorctl("stop", "pop3:*")
    wait_until(lambda: not is_open(), "the port is closed")
    instance.supervisorctl("start", "pop3:*")
    wait_until(is_open, "the port is open again")


def greeting(instance: Instance) -> bytes:
    with socket.create_connection(("127.0.0.1", instance.pop3_port), timeout=PATIENCE) as client:
        return client.recv(200)


def fail_to_log_in(instance: Instance) -> None:
    with socket.create_connection(("127.0.0.1", instance.pop3_port), timeout=PATIENCE) as client:
        for line in (f"USER {USER}", "PASS wrong"):
            client.recv(200)
            client.sendall(f"{line}\r\n".encode())
        client.recv(200)


def test_failed_logins_with_one_process_are_known_to_the_others(instance: Instance) -> None:
    for _ in range(4):
        assert greeting(instance).startswith(b"+OK")
        fail_to_log_in(instance)
    # So many that each process has answered some.
    assert {greeting(instance)[:4] for _ in range(30)} == {b"-ERR"}
    assert "127.0.0.1" in instance.mailsrv("ban", "list").stdout
    assert instance.mailsrv("ban", "lift", "127.0.0.1").returncode == 0


def test_without_the_option_there_is_one_process_with_the_plain_name(tmp_path: Path) -> None:
    made = Instance.create(tmp_path / "instance", {})
    text = (made.root / "supervisord.conf").read_text()
    assert "numprocs" not in text
    assert "/var/log/smtp.log" in text
