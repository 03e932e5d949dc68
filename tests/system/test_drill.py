"""The drill itself: it makes its faults, tells what came of each, and leaves nothing behind."""

import json
import subprocess
import sys

DRILL = [sys.executable, "-m", "mailsrv.cli.main", "drill"]


def test_a_drill_heals_everything_loses_and_doubles_nothing_and_refuses_no_connection() -> None:
    chosen = ["kill -9 of smtp", "kill -9 of health", "poison", "zero-byte", "flood", "full disk", "clock"]
    words = [word for each in chosen for word in ("--only", each)]
    done = subprocess.run([*DRILL, "--json", *words], check=False, capture_output=True, text=True, timeout=110)
    told = json.loads(done.stdout)
    assert done.returncode == 0, told
    assert told["is_good"]
    assert told["audit"]
    assert told["mail"]["sent"] > 50
    for row in told["drills"]:
        assert (row["lost"], row["doubled"], row["refused"]) == (0, 0, 0), row
        assert row["is_skipped"] or row["healed_after"] is not None, row
    assert len(told["drills"]) == len(chosen)


def test_a_drill_that_does_not_exist_is_misuse() -> None:
    done = subprocess.run([*DRILL, "--only", "nothing of that name"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected one of: kill -9 of smtp, " in done.stderr
