"""What `mailsrv check` finds, without a running instance."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.settings import Listen
from mailsrv.work.checks import check
from tests.work.instance import make


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # supervisord is asked, in vain
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("lmtp", ""),
        ("no/such/folder/lmtp", "its folder is missing"),
        ("mailsrv.toml", "is in the way: not a socket"),
        ("x" * 108, "is longer than 107 octets"),
    ],
)
def test_where_lmtp_cannot_listen_is_told(tmp_path: Path, path: str, problem: str) -> None:
    config = replace(make(tmp_path), listen=Listen(lmtp=path))
    config.path.touch()
    (finding,) = (each for each in check(config) if each.subject == "lmtp")
    assert finding.problem == (problem and f"{problem}; change lmtp in [listen] of mailsrv.toml")
