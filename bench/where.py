"""Where the time goes: for each work that peers do as well, what every program of mailsrv takes of the CPU, for what.

Sampled by perf (Debian: linux-perf), which wants root. Prints the table that docs/PERFORMANCE.md has: microseconds a
message, in Python, in other code outside of the kernel, and in the kernel, by the system calls that take the most.
"""

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import contenders, works
from bench.contender import Contender
from bench.temporary import process_of
from bench.works import Work

RATE: Final = 2000  # samples a second of CPU
MOST: Final = 5  # system calls that are told
OTHER: Final = "the network and interrupts"
_CALLS: Final = ("__x64_sys_", "__se_sys_", "__arm64_sys_")
PROGRAMS: Final = {"smtp": ("smtp", "delivery"), "pop3": ("pop3",)}

Spent = Counter[str]  # microseconds for a piece of work, by what they are spent for


def profile(contender: Contender, work: Work, programs: dict[str, int], rounds: int) -> tuple[float, dict[str, Spent]]:
    """Do a work; pieces of it a second, and by program what each took."""
    work.sample(contender, work.times)  # warm
    with tempfile.TemporaryDirectory(prefix="mailsrv-bench-") as folder:
        data = Path(folder) / "data"
        with _recording(programs.values(), data):
            rates = [work.sample(contender, work.times).rate for _ in range(rounds)]
        shown = ["perf", "script", "-i", str(data), "-F", "pid,ip,sym,dso"]
        text = subprocess.run(shown, check=True, capture_output=True, text=True).stdout
    names = {pid: name for name, pid in programs.items()}
    found = {name: Spent() for name in programs}
    for pid, what in spent_in(text):
        found[names[pid]][what] += 1
    share = 1e6 / RATE / (rounds * work.times)
    return sum(rates) / len(rates), {
        name: Spent({what: count * share for what, count in each.items()}) for name, each in found.items()
    }


@contextmanager
def _recording(pids: Iterable[int], data: Path) -> Iterator[None]:
    """Within, perf samples these processes, their threads included, from the first instant on."""
    commands, ask = os.pipe()
    answers, answer = os.pipe()
    asked = ["perf", "record", "-q", "-F", str(RATE), "-g", "-e", "cpu-clock", "-p", ",".join(map(str, pids))]
    asked += ["-o", str(data), "-D", "-1", "--control", f"fd:{commands},{answer}"]
    recording = subprocess.Popen(asked, stderr=subprocess.DEVNULL, pass_fds=(commands, answer))
    os.close(answer)  # ours, so that its end is seen where perf has ended
    try:
        os.write(ask, b"enable\n")
        if not os.read(answers, 5):
            raise RuntimeError("perf does not record")
        yield
    finally:
        recording.send_signal(signal.SIGINT)
        recording.wait()
        for fd in (commands, ask, answers):
            os.close(fd)


def spent_in(text: str) -> Iterator[tuple[int, str]]:
    """Of what `perf script` says: for each sample the process, and what it was at."""
    for block in text.split("\n\n"):
        first, *frames = [line.strip() for line in block.splitlines() if line.strip()] or [""]
        if frames:
            yield int(first.split()[0].partition("/")[0]), _what(frames)


def _what(frames: list[str]) -> str:
    module = frames[0].rpartition("(")[2].rstrip(")").rpartition("/")[2]
    if module.startswith("[") and module != "[vdso]":
        called = (symbol.removeprefix(each) for symbol in map(_symbol, frames) for each in _CALLS if each in symbol)
        return next(called, OTHER)
    return "Python" if "python3" in module else "libraries"


def _symbol(frame: str) -> str:
    return frame.split()[1] if len(frame.split()) > 1 else ""


def rows(work: Work, rate: float, found: dict[str, Spent]) -> Iterator[str]:
    """Lines of the table."""
    for name, spent in found.items():
        outside = {"Python", "libraries"}
        calls = Spent({what: value for what, value in spent.items() if what not in outside})
        told = ", ".join(f"{what} {value:,.0f}" for what, value in calls.most_common(MOST) if value >= 1)
        cells = [work.title, f"{rate:,.0f}", name, f"{spent.total():,.0f}"]
        cells += [f"{spent[each]:,.0f}" for each in ("Python", "libraries")]
        yield f"| {' | '.join([*cells, f'{calls.total():,.0f}', told])} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=0.5)
    asked = parser.parse_args()
    if shutil.which("perf") is None:
        raise SystemExit("perf is not here; Debian has it in linux-perf")
    print("| work | a second | program | us each | Python | libraries | kernel | of that |")
    print("|---|---|---|---|---|---|---|---|")
    with contenders.receiving(frozenset()) as (server,):
        _tell(server, list(works.receiving(asked.scale)), PROGRAMS["smtp"], asked.rounds)
    with contenders.handing_out(works.POLLERS, frozenset()) as (server,):
        _tell(server, list(works.handing_out(asked.scale)), PROGRAMS["pop3"], asked.rounds)


def _tell(server: Contender, all_works: list[Work], programs: tuple[str, ...], rounds: int) -> None:
    root = server.mailbox.parents[4]
    pids = {name: process_of(root, name).pid for name in programs}
    for work in all_works:
        print("\n".join(rows(work, *profile(server, work, pids, rounds))), flush=True)


if __name__ == "__main__":
    main()
