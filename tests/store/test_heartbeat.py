"""Heartbeats: one line of a fixed size, whatever there is to be told."""

import os
from pathlib import Path

from mailsrv.store.heartbeat import BEAT_OCTETS, COUNT_INTERVAL, Heart, read_beat
from tests.system.instance import wait_until


def test_a_beat_is_read_as_it_was_written(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "delivery.beat")
    heart.beat(7, {"taken": 3, "problems": ["one"]}, "an entry")
    beat = read_beat(tmp_path / "delivery.beat")
    assert beat is not None
    assert (beat.pid, beat.progress, beat.in_hand) == (os.getpid(), 7, "an entry")
    assert beat.facts == {"taken": 3, "problems": ["one"]}
    assert 0 <= beat.age() < 10


def test_of_too_many_words_the_numbers_are_kept(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "delivery.beat")
    heart.beat(7, {"taken": 3, "problems": ["a long one"] * 1000})
    assert (tmp_path / "delivery.beat").stat().st_size == BEAT_OCTETS
    beat = read_beat(tmp_path / "delivery.beat")
    assert beat is not None
    assert beat.facts == {"taken": 3}


def test_descriptors_are_counted_anew_after_a_moment_and_not_with_each_beat(tmp_path: Path) -> None:
    path = tmp_path / "smtp.beat"
    heart = Heart(path)

    def counted() -> int:
        heart.beat(0, {})
        beat = read_beat(path)
        assert beat is not None
        return beat.descriptors

    before = counted()
    opened = [os.open(tmp_path, os.O_RDONLY) for _ in range(5)]
    assert counted() == before
    wait_until(lambda: counted() == before + 5, f"they are counted again after {COUNT_INTERVAL} seconds")
    for fd in opened:
        os.close(fd)


def test_none_is_read_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "torn.beat").write_bytes(b'{"pid": 1')
    assert read_beat(tmp_path / "torn.beat") is None
    assert read_beat(tmp_path / "no.beat") is None
