"""The fuzzer, run for a bounded time; without atheris, its checks over its seeds; and proof that they can fail."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsrv.protocol import dots, lines, smtp_content
from tests.fuzz.seeds import write_seeds
from tests.fuzz.targets import TARGETS
from tests.protocol.dialogue import escaped

ROOT = Path(__file__).parents[2]
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has wheels for CPython 3.11 to 3.13 only"
)

# Of each target: runs, and the fewest places of mailsrv that its seeds reach.
BOUNDS = {"smtp": (1500, 400), "address": (20_000, 40), "header": (15_000, 60), "pop3": (1200, 90)}
MAX_SECONDS = 15  # however slow the machine


def fuzz(target: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The fuzzer in a process of its own: atheris never returns."""
    command = [sys.executable, "-m", "tests.fuzz.smtp", "--target", target, f"-artifact_prefix={folder}/", *flags]
    return subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=100,
        check=False,
    )


def what_crashed(target: str, folder: Path, output: str) -> str:
    """For who reads the failure: the input as escaped octets, how to replay it, and what was raised."""
    found = sorted(each for each in folder.iterdir() if each.is_file())
    shown = [f"{each.name}: {escaped(each.read_bytes())}" for each in found]
    replay = f"replay: write the octets to a file, then python -m tests.fuzz.smtp --target {target} FILE"
    return "\n".join([*shown, replay, output[-4000:]])


@needs_atheris
@pytest.mark.parametrize("target", TARGETS)
def test_octets_that_are_led_by_coverage_find_nothing(target: str, tmp_path: Path) -> None:
    runs, reached = BOUNDS[target]
    done = fuzz(target, tmp_path, f"-runs={runs}", f"-max_total_time={MAX_SECONDS}", "-seed=1")
    assert done.returncode == 0, what_crashed(target, tmp_path, done.stdout)
    executed = re.search(r"^stat::number_of_executed_units:\s*(\d+)$", done.stdout, re.M)
    first = re.search(r"\bINITED cov: (\d+) ft: (\d+) ", done.stdout)
    last = re.search(r"\bDONE +cov: (\d+) ft: (\d+) ", done.stdout)
    assert executed and first and last, done.stdout[-4000:]
    assert int(executed[1]) >= runs // 5, done.stdout[-4000:]
    assert int(first[1]) >= reached, "the seeds reach less of mailsrv than they did"
    assert int(last[2]) > int(first[2]), "nothing was found that the seeds do not show: is the code instrumented?"


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_pass_the_checks(target: str, tmp_path: Path) -> None:
    write_seeds(target, tmp_path)
    seeds = sorted(tmp_path.iterdir())
    assert seeds
    for seed in seeds:
        TARGETS[target](seed.read_bytes())


def _without_nul_check(inspector: smtp_content.Inspector, octets: bytes) -> None:
    _LOOK(inspector, octets.replace(b"\0", b"x"))


def _one_octet_short(reader: smtp_content.ChunkReader, octets: int, *, is_last: bool) -> None:
    _CHUNK(reader, max(octets - 1, 0), is_last=is_last)


def _bare_lf_ends_lines(reader: lines.LineReader, octets: bytes) -> None:
    _FEED(reader, re.sub(rb"(?<!\r)\n", b"\r\n", octets))


_LOOK = smtp_content.Inspector.look
_CHUNK = smtp_content.ChunkReader.__init__
_FEED = lines.LineReader.feed


@pytest.mark.parametrize(
    ("owner", "name", "planted"),
    [
        (dots, "END", b"\n.\r\n"),
        (smtp_content.Inspector, "look", _without_nul_check),
        (smtp_content.ChunkReader, "__init__", _one_octet_short),
        (lines.LineReader, "feed", _bare_lf_ends_lines),
    ],
    ids=["LF.CRLF ends the content", "a NUL is taken", "a chunk is cut short", "LF ends a command"],
)
def test_the_checks_find_a_bug_that_is_planted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: object, name: str, planted: Callable[..., None] | bytes
) -> None:
    write_seeds("smtp", tmp_path)
    (tmp_path / "nul").write_bytes(b"\0" * 5 + b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n\0\r\n.\r\n")
    monkeypatch.setattr(owner, name, planted)
    with pytest.raises(AssertionError):
        for seed in sorted(tmp_path.iterdir()):
            TARGETS["smtp"](seed.read_bytes())


@needs_atheris
def test_a_crash_is_told_with_its_octets(tmp_path: Path) -> None:
    (tmp_path / "crash-1").write_bytes(b"a\r\n\xff")
    assert "crash-1: a\\r\\n\\xff\nreplay: " in what_crashed("smtp", tmp_path, "raised")
