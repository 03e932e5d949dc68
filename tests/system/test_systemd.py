"""The unit that `mailsrv init --systemd` writes, as systemd itself judges it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture
def unit(place: Path) -> Path:
    root = place / "an instance"
    command = [sys.executable, "-m", "mailsrv.cli.main", "init", str(root), "--run-as", "mail", "--systemd"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "systemctl enable --now" in told
    return root / "mailsrv.service"


def test_the_unit_restarts_and_watches_and_gives_no_right_but_to_bind_ports(unit: Path) -> None:
    text = unit.read_text()
    assert "Restart=always" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.M)
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n" in text
    assert f'--root "{unit.parent}" up' in text
    assert (unit.parent / "var" / "probe").exists()  # without root, `up` could not make it


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not here")
def test_systemd_understands_every_line_and_finds_little_that_is_exposed(unit: Path) -> None:
    assert ANALYZE is not None
    verified = subprocess.run([ANALYZE, "verify", str(unit)], check=False, capture_output=True, text=True)
    assert str(unit) not in verified.stderr, verified.stderr
    judged = subprocess.run(
        [ANALYZE, "security", "--offline=true", "--threshold=30", str(unit)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
