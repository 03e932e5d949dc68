"""The README, tried as a new user would: a fresh clone in an empty folder, and its own lines."""

import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailsrv.config import PORT_OFFSETS, Config
from tests.system.instance import REPOSITORY, free_port_base

PASSWORD_LINE = "PASSWORD=the-password-that-was-printed"


def _blocks(readme: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", readme, re.S)


class Clone:
    """A clone with ports of its own, so that tests may run side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
        self._install()
        base, settings = free_port_base(), Config(folder).listen
        self.ports = {getattr(settings, name): base + offset for name, offset in PORT_OFFSETS.items()}
        toml = folder / "mailsrv.toml"
        toml.write_text(self._with_ports(toml.read_text()).replace('run_as = "mailsrv"', 'run_as = "nobody"'))

    def _install(self) -> None:
        """A .venv of the clone's own, with the packages of the one that runs the tests: they were installed once."""
        environment = self.folder / ".venv"
        venv.create(environment, symlinks=True)
        (packages,) = environment.glob("lib/*/site-packages")
        (packages / "clone.pth").write_text(f"{sysconfig.get_path('purelib')}\n{self.folder}\n")
        (environment / "bin" / "supervisorctl").symlink_to(REPOSITORY / ".venv" / "bin" / "supervisorctl")
        (environment / "installed").touch()

    def _with_ports(self, text: str) -> str:
        """All at once: the digits of one of ours may be those of another one's default."""
        return re.sub(r"\d+", lambda found: str(self.ports.get(int(found[0]), found[0])), text)

    def run(self, lines: str) -> str:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
        command = ["bash", "-euo", "pipefail", "-c", self._with_ports(lines)]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def clone(place: Path) -> Iterator[Clone]:
    made = Clone(place / "mailsrv")
    yield made
    made.run("bin/mailsrv down")


def test_the_lines_of_the_readme_do_what_it_says(clone: Clone) -> None:
    start, password, send, submit, read, look_after, end, test = _blocks((clone.folder / "README.md").read_text())
    told = clone.run(start)
    for name in PORT_OFFSETS:
        port = clone.ports[getattr(Config(clone.folder).listen, name)]
        assert re.search(rf"{name} +127\.0\.0\.1:{port}\n", told)
    found = re.search(r"told only this once: (\S+)", told)
    assert found
    assert password == f"{PASSWORD_LINE}\n"
    secret = f"PASSWORD={found.group(1)}\n"
    clone.run(send)
    clone.run(secret + submit)
    new = clone.folder / "var" / "mail" / "localhost" / "admin" / "new"
    clone.run(f"timeout 20 sh -c 'until [ $(ls {new} | wc -l) = 4 ]; do sleep 0.1; done'")
    fetched = clone.run(secret + read)
    assert fetched.startswith("1 ")
    assert fetched.endswith("From: me@localhost\nTo: admin@localhost\nSubject: hello\n\nIt works.\n")
    state = clone.run(look_after)
    assert "all is well" in state
    assert "PROBLEM" not in state
    assert "mailsrv is running already" in clone.run("bin/up --detach")
    assert "told only this once" not in clone.run("bin/up --detach")
    assert clone.run(end) == "mailsrv has ended\n"
    assert test == "bin/test\n"


def test_starting_again_changes_nothing(clone: Clone) -> None:
    clone.run("bin/up --detach")
    clone.run("bin/mailsrv down")
    files = ["mailsrv.toml", "supervisord.conf", "var/accounts", "var/aliases", "var/tls/cert.pem", "var/tls/key.pem"]
    before = {name: (clone.folder / name).read_bytes() for name in files}
    told = clone.run("bin/up --detach")
    assert "made" not in told
    assert {name: (clone.folder / name).read_bytes() for name in files} == before


def test_in_the_foreground_it_tells_what_listens_and_ends_with_supervisord(clone: Clone) -> None:
    process = subprocess.Popen(
        ["bin/up"], cwd=clone.folder, stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    try:
        assert process.stdout
        said = ""
        while "Ctrl-C stops it." not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert "mailsrv listens:" in said
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout:
            process.stdout.close()
