"""A huge maildrop: from the login to STAT, LIST and UIDL, with memory; and clients that are slow, silent or hasty.

Beside mailsrv, Dovecot does the same on the same mailbox, where it is installed.
"""

import argparse
import contextlib
import functools
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import dovecot
from bench.pop3_client import Pop3Client
from bench.temporary import MAILSRV, PASSWORD, PORT_BASE, USER, instance, mailbox_of, memory_of, process_of

PORT = PORT_BASE + 3
DOVECOT_PORTS = (PORT_BASE + 5, PORT_BASE + 6)  # of IMAP and POP3
LETTER = b"From: a@example.org\nTo: admin@localhost\nSubject: one of many\n\n" + b"It works.\n" * 20
SIZES = f",S={len(LETTER)},W={len(LETTER) + LETTER.count(10)}"
LINKS = 50_000  # names of one file: filesystems have a limit


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = asked.sessions + 100
    with instance(pop3__max_connections=most, pop3__max_connections_per_address=most) as root:
        box = mailbox_of(root).parent
        measure_hasty_and_slow(root, box)
        measure_idle(root, asked.sessions)
        measure_huge(root, box, asked.messages, asked.rounds)
        measure_foreign(root, box, asked.messages)


def fill(box: Path, number: int, sizes: str) -> None:
    """So many messages in place of what was there, half of them in new/; `sizes` is added to each name."""
    owner = box.stat().st_uid if box.exists() else box.parent.stat().st_uid
    shutil.rmtree(box, ignore_errors=True)
    for folder in (box, *(box / each for each in ("tmp", "new", "cur"))):
        folder.mkdir(mode=0o700, parents=True)
        shutil.chown(folder, owner)
    for index in range(number):
        name = f"{1_764_000_000 + index // 3}.M{index:06}P7.bench{sizes}"
        path = box / "new" / name if index % 2 else box / "cur" / f"{name}:2,S"
        if index % LINKS < 2:
            path.write_bytes(LETTER)
            shutil.chown(path, owner)
            first = path
        else:
            path.hardlink_to(first)


def session(port: int, *commands: str) -> dict[str, float]:
    """Seconds from before the connection to the end of the answer to each command, the login being the first."""
    start = time.perf_counter()
    seconds = {}
    with Pop3Client(port) as client:
        client.log_in(USER, PASSWORD)
        seconds["login"] = time.perf_counter() - start
        for command in commands:
            client.say(command)
            if command in ("LIST", "UIDL"):
                client.rest()
            seconds[command] = time.perf_counter() - start
        client.say("QUIT")
    return seconds


def measure_huge(root: Path, box: Path, messages: int, rounds: int) -> None:
    """Login to STAT, LIST and UIDL of a huge maildrop, and the memory that its session takes."""
    make = functools.partial(fill, box, messages, SIZES)
    peak = peak_of_session(root, make)
    print(f"{messages} messages: {peak:.1f} MB for the session of mailsrv at its peak")
    servers = {"mailsrv": PORT}
    with contextlib.ExitStack() as stack:
        if port := stack.enter_context(dovecot_beside(root)):
            servers["Dovecot"] = port
        for port in servers.values():
            session(port, "STAT")  # the password is known from now on, and Dovecot has its index
        for words, change in (
            ("nothing new", lambda _name: None),
            ("one more each time", functools.partial(put_one, box, SIZES)),
        ):
            compare(f"{messages} messages, {words}", servers, rounds, change)


def compare(title: str, servers: dict[str, int], rounds: int, change: Callable[[str], None]) -> None:
    """In turns, after a change each time: medians, and what they are to each other."""
    seen: dict[str, dict[str, list[float]]] = {name: {} for name in servers}
    for number in range(rounds):
        for name, port in servers.items():
            change(f"{name}{number}")
            time.sleep(0.1)
            for command, seconds in session(port, "STAT", "LIST", "UIDL").items():
                seen[name].setdefault(command, []).append(seconds)
    for command in ("STAT", "LIST", "UIDL"):
        medians = {name: statistics.median(each[command]) for name, each in seen.items()}
        told = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items())
        ratio = f": {medians['Dovecot'] / medians['mailsrv']:.1f} times as fast" if "Dovecot" in medians else ""
        print(f"{title}, from the connection to the end of {command}: {told}{ratio}")


def put_one(box: Path, sizes: str, name: str) -> None:
    """One more message comes in."""
    draft = box / "tmp" / name
    draft.write_bytes(LETTER)
    shutil.chown(draft, box.stat().st_uid)
    draft.rename(box / "new" / f"{time.time():.6f}.{name}.bench{sizes}")


def peak_of_session(root: Path, make: Callable[[], None]) -> float:
    """MB by which `pop3` grows at its peak for one session, as the kernel saw it; `make` fills the maildrop.

    `pop3` is started anew, and knows the password already: to verify it takes 64 MB for a moment.
    """
    fill(mailbox_of(root).parent, 0, "")
    subprocess.run([*MAILSRV, "--root", str(root), "restart", "pop3"], check=True, capture_output=True)
    session(PORT, "STAT")
    make()
    process = Path(f"/proc/{process_of(root, 'pop3').pid}")
    (process / "clear_refs").write_text("5")  # the peak is counted from here
    before = memory_of(root, "pop3")
    session(PORT, "STAT", "LIST", "UIDL")
    status = (process / "status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return (peak - before) / 1e6


def measure_foreign(root: Path, box: Path, messages: int) -> None:
    """The same where the names tell no sizes: measured in the first session, remembered in the others."""
    make = functools.partial(fill, box, messages, "")
    make()
    for words in ("measuring", "remembered"):
        print(f"{messages} messages without sizes, {words}: {session(PORT, 'STAT')['STAT']:.3f} s to STAT")
    peak = peak_of_session(root, make)
    print(f"{messages} messages without sizes, measuring: {peak:.1f} MB for the session at its peak")


def measure_idle(root: Path, sessions: int) -> None:
    """Memory for each of many sessions that do nothing."""
    before = memory_of(root, "pop3")
    with contextlib.ExitStack() as stack:
        for _ in range(sessions):
            stack.enter_context(Pop3Client(PORT)).say("CAPA")
        each = (memory_of(root, "pop3") - before) / sessions / 1024
        seconds = statistics.median(session(PORT, "STAT")["STAT"] for _ in range(50))
    print(f"{sessions} idle sessions: {each:.1f} KiB each; a poll beside them takes {1000 * seconds:.1f} ms")


def measure_hasty_and_slow(root: Path, box: Path) -> None:
    """Clients that pipeline 10,000 commands, send a line without end, and read nothing of what they ask for."""
    fill(box, 1, "")
    (box / "new" / "2.large").write_bytes(LETTER + b"x" * 75 + b"\n" * 1 + (b"y" * 75 + b"\n") * 650_000)
    shutil.chown(box / "new" / "2.large", box.stat().st_uid)
    process, before = process_of(root, "pop3"), memory_of(root, "pop3")
    with Pop3Client(PORT) as client:
        client.log_in(USER, PASSWORD)
        start = time.perf_counter()
        client.socket.sendall(b"NOOP\r\n" * 10_000)
        for _ in range(10_000):
            client.expect(b"+OK")
        print(f"10,000 commands pipelined: {time.perf_counter() - start:.2f} s", end="; ")
        client.socket.sendall(b"RETR 2\r\n" * 20)
        time.sleep(1)  # the server sends what it can, and must then wait
        print(f"20 x 49 MB asked for and not read: {(process.memory_info().rss - before) / 1e6:.1f} MB", end="; ")
    with Pop3Client(PORT) as client:
        with contextlib.suppress(OSError):
            for _ in range(500):
                client.socket.sendall(b"x" * 100_000)
        print(f"a line of 50 MB: {(process.memory_info().rss - before) / 1e6:.1f} MB")


@contextlib.contextmanager
def dovecot_beside(root: Path) -> Iterator[int]:
    """The POP3 port of a Dovecot that serves the same mailboxes; 0 where there is none."""
    if not dovecot.is_here():
        print(f"no Dovecot to compare with; Debian: {dovecot.PACKAGES}")
        yield 0
        return
    root.parent.chmod(0o755)  # its processes have to get in
    with dovecot.running(root.parent / "dovecot", root / "var" / "mail", {USER: PASSWORD}, DOVECOT_PORTS) as started:
        yield started.pop3_port


if __name__ == "__main__":
    main()
