"""Another program renames messages, from new/ to cur/ and by flags, at the moment that we look at them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsrv.store import durable
from mailsrv.store.maildrop import Maildrop

SIZES = ",S=2,W=3"
each_name = pytest.mark.parametrize("name", [f"1.x{SIZES}", "1.x"], ids=["size in the name", "size to be measured"])


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for folder in ("tmp", "new", "cur"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture
def after_a_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[list[str]], object]], None]:
    """Has `meddle` called after a look at a folder, once; it may change what was seen."""
    real = os.listdir

    def arrange(folder: str, meddle: Callable[[list[str]], object]) -> None:
        waiting = [meddle]

        def listdir(path: Path) -> list[str]:
            names = real(path)
            if path.name == folder and waiting:
                waiting.pop()(names)
            return names

        monkeypatch.setattr(os, "listdir", listdir)

    return arrange


AfterALook = Callable[[str, Callable[[list[str]], object]], None]


def opened(box: Path) -> Iterator[tuple[str, int, bytes]]:
    maildrop = Maildrop(box)
    for index, octets in enumerate(maildrop.listing.octets):
        with maildrop.open(index) as file:
            yield maildrop.listing.uidl(index), octets, file.read()
    maildrop.close()


@each_name
def test_what_moves_to_cur_between_two_looks_is_one_message(name: str, box: Path, after_a_look: AfterALook) -> None:
    (box / "new" / name).write_bytes(b"a\n")
    after_a_look("new", lambda _: (box / "new" / name).rename(box / "cur" / f"{name}:2,"))
    assert list(opened(box)) == [("1.x", 3, b"a\n")]


@each_name
def test_what_a_look_sees_under_both_names_is_one_message(name: str, box: Path, after_a_look: AfterALook) -> None:
    (box / "cur" / f"{name}:2,S").write_bytes(b"a\n")
    after_a_look("cur", lambda seen: seen.append(f"{name}:2,"))
    assert list(opened(box)) == [("1.x", 3, b"a\n")]


@each_name
def test_what_a_look_has_missed_is_seen_by_another(name: str, box: Path, after_a_look: AfterALook) -> None:
    (box / "cur" / f"{name}:2,S").write_bytes(b"a\n")  # just now: the folder has not settled
    after_a_look("cur", lambda seen: seen.clear())
    assert list(opened(box)) == [("1.x", 3, b"a\n")]


@each_name
def test_what_is_renamed_after_the_look_is_there(name: str, box: Path, after_a_look: AfterALook) -> None:
    (box / "cur" / f"{name}:2,").write_bytes(b"a\n")
    os.utime(box / "cur", (0, 0))  # settled: nobody looks again for that
    after_a_look("cur", lambda _: (box / "cur" / f"{name}:2,").rename(box / "cur" / f"{name}:2,S"))
    assert list(opened(box)) == [("1.x", 3, b"a\n")]


def test_what_is_renamed_at_the_moment_of_its_removal_is_removed(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}.x{SIZES}" for number in range(3)]
    for name in names:
        (box / "new" / name).write_bytes(b"a\n")
    maildrop = Maildrop(box)
    flags = iter("FRS")
    real = durable.remove

    def remove(paths: list[Path], *, must_exist: bool) -> list[durable.Outcome]:
        for flag in flags:  # at each of three attempts
            (found,) = [path for folder in ("new", "cur") for path in (box / folder).iterdir() if names[0] in path.name]
            found.rename(box / "cur" / f"{names[0]}:2,{flag}")
            break
        return real(paths, must_exist=must_exist)

    monkeypatch.setattr(durable, "remove", remove)
    maildrop.remove(frozenset({0, 1}))
    maildrop.close()
    assert [path.name for folder in ("new", "cur") for path in (box / folder).iterdir()] == [names[2]]
