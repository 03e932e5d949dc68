"""The ledger: written in batches, whole lines whatever happens, rotated, kept for so many days, read once."""

import os
import resource
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailsrv.store import ledger
from mailsrv.store.ledger import Kind, Ledger, Reader, begin, begun, files, line
from tests import killing


def ids(folder: Path) -> list[str]:
    return [each["id"] for each in Reader(folder).read()]


def test_lines_come_back_as_they_were_written_with_their_program(tmp_path: Path) -> None:
    books = Ledger(tmp_path / "ledger", "smtp", 30)
    books.write([line(Kind.ACCEPTED, "a", to=["büro@example.org"], file=os.fsdecode(b"\xff\n")), line(Kind.BAD, "b")])
    first, second = Reader(tmp_path / "ledger").read()
    assert (first["fate"], first["id"], first["to"], first["by"]) == ("accepted", "a", ["büro@example.org"], "smtp")
    assert os.fsencode(first["file"]) == b"\xff\n"
    assert second["fate"] == "bad"
    assert first["boot"] == second["boot"] == ledger.BOOT_ID.read_text().strip()


def test_the_lines_of_a_day_come_in_the_order_of_time_whoever_wrote_them(tmp_path: Path) -> None:
    smtp, delivery = Ledger(tmp_path, "smtp", 30), Ledger(tmp_path, "delivery", 30)
    for entry_id in "abc":
        smtp.write([line(Kind.ACCEPTED, entry_id)])
        delivery.write([line(Kind.DELIVERED, entry_id)])
    assert [(each["id"], each["by"]) for each in Reader(tmp_path).read()] == [
        (entry_id, program) for entry_id in "abc" for program in ("smtp", "delivery")
    ]


def test_what_a_reader_has_not_taken_is_given_when_it_asks_again(tmp_path: Path) -> None:
    for program in ("smtp", "delivery", "pop3"):
        Ledger(tmp_path, program, 30).write([line(Kind.ACCEPTED, f"{program}{each}") for each in range(3)])
    reader = Reader(tmp_path)
    first = [each["id"] for _, each in zip(range(4), reader.read(), strict=False)]
    rest = [each["id"] for each in reader.read()]
    assert sorted([*first, *rest]) == sorted(ids(tmp_path))


def test_a_reader_that_asks_again_gets_what_came_meanwhile(tmp_path: Path) -> None:
    books, reader = Ledger(tmp_path, "smtp", 30), Reader(tmp_path)
    books.write([line(Kind.ACCEPTED, "a")])
    assert [each["id"] for each in reader.read()] == ["a"]
    books.write([line(Kind.ACCEPTED, "b")])
    Ledger(tmp_path, "delivery", 30).write([line(Kind.DELIVERED, "a")])
    assert sorted(each["fate"] for each in reader.read()) == ["accepted", "delivered"]
    assert list(reader.read()) == []


def test_a_line_that_a_crash_has_torn_spoils_no_other(tmp_path: Path) -> None:
    Ledger(tmp_path, "smtp", 30).write([line(Kind.ACCEPTED, "a")])
    (part,) = files(tmp_path)
    part.path.write_bytes(part.path.read_bytes() + b'{"t":1,"fate":"acc')
    assert ids(tmp_path) == ["a"]
    Ledger(tmp_path, "smtp", 30).write([line(Kind.ACCEPTED, "b")])
    reader = Reader(tmp_path)
    assert [each["id"] for each in reader.read()] == ["a", "b"]
    assert reader.torn == 1


def test_a_writer_killed_at_any_step_leaves_whole_lines(tmp_path: Path) -> None:
    def work(place: Path) -> None:
        books = Ledger(place, "smtp", 30)
        for number in range(3):
            books.write([line(Kind.ACCEPTED, str(number)), line(Kind.BAD, str(number))])

    for place in killing.deaths(tmp_path, lambda _place: None, work):
        Ledger(place, "smtp", 30).write([line(Kind.ACCEPTED, "next")])
        found = ids(place)
        assert found[-1] == "next"
        assert found[:-1] == ["0", "0", "1", "1", "2", "2"][: len(found) - 1]


def test_what_a_full_disk_does_not_take_waits_and_is_told(tmp_path: Path) -> None:
    def work() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        books = Ledger(tmp_path, "smtp", 30)
        books.write([line(Kind.ACCEPTED, "a")])
        size = files(tmp_path)[0].path.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # a part of the next line fits
        books.write([line(Kind.ACCEPTED, "b"), line(Kind.ACCEPTED, "c")])
        told = books.problem
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        books.retry()
        assert books.problem == ""
        return told

    assert killing.answer_of(work) == "the ledger cannot be written: File too large; 2 lines wait"
    reader = Reader(tmp_path)
    assert [each["id"] for each in reader.read()] == ["a", "b", "c"]
    assert reader.torn == 0


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    books = Ledger(tmp_path / "ledger", "smtp", 30)
    books.write([line(Kind.ACCEPTED, "a")])
    for part in files(tmp_path / "ledger"):
        part.path.unlink()
    (tmp_path / "ledger").rmdir()
    books.write([line(Kind.ACCEPTED, "b")])
    assert ids(tmp_path / "ledger") == ["b"]


def test_a_file_does_not_grow_beyond_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_OCTETS", 1000)
    books = Ledger(tmp_path, "smtp", 30)
    for number in range(100):
        books.write([line(Kind.ACCEPTED, f"{number:03}")])
    assert ids(tmp_path) == [f"{number:03}" for number in range(100)]
    assert len(files(tmp_path)) > 5
    assert max(part.path.stat().st_size for part in files(tmp_path)) < 1200


@pytest.fixture
def on_day(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have the ledger believe that it is so many days later."""

    def set_day(days: int) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, _tz: object = None) -> "Clock":
                later = datetime.now(UTC) + timedelta(days=days)
                return cls.fromtimestamp(later.timestamp(), UTC)

        monkeypatch.setattr(ledger, "datetime", Clock)

    return set_day


def test_each_day_has_its_file_and_old_ones_go(tmp_path: Path, on_day: Callable[[int], None]) -> None:
    books = Ledger(tmp_path, "smtp", 3)
    other = Ledger(tmp_path, "pop3", 3)
    for day in range(8):
        on_day(day)
        other.write([line(Kind.FETCHED, f"fetched {day}")])
        books.write([line(Kind.ACCEPTED, str(day))])
    assert [each for each in ids(tmp_path) if "fetched" not in each] == ["3", "4", "5", "6", "7"]


def test_a_clock_that_is_wrong_for_less_than_a_day_costs_no_books(
    tmp_path: Path, on_day: Callable[[int], None]
) -> None:
    books = Ledger(tmp_path, "smtp", 3)
    for day in (0, 1, 5000, 1):
        on_day(day)
        books.write([line(Kind.ACCEPTED, str(day))])
    assert sorted(ids(tmp_path)) == ["0", "1", "1", "5000"]


def test_the_books_begin_once(tmp_path: Path) -> None:
    assert begun(tmp_path / "ledger") == 0.0
    begin(tmp_path / "ledger")
    first = begun(tmp_path / "ledger")
    begin(tmp_path / "ledger")
    assert begun(tmp_path / "ledger") == first > 0
