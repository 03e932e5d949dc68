"""Replies: one table, each fact once."""

import pytest

from mailsrv.model import reply
from mailsrv.model.failure import reply_to
from mailsrv.model.reply import MAX_LINE, Reply

ALL = {name: each for name, each in vars(reply).items() if isinstance(each, Reply)}


def test_no_two_names_stand_for_the_same_reply() -> None:
    assert len(set(ALL.values())) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_reply_is_lines_of_ascii_with_the_class_of_its_code(name: str) -> None:
    octets = bytes(ALL[name])
    assert octets.endswith(b"\r\n")
    assert octets.isascii()
    assert len(octets) <= MAX_LINE + 2
    assert ALL[name].status[0] == str(ALL[name].code)[0]
    assert ALL[name].is_permanent == octets.startswith(b"5")


def test_a_text_of_several_lines_becomes_a_multi_line_reply() -> None:
    assert bytes(reply.HELLO.saying("here\nSIZE")) == b"250-here\r\n250 SIZE\r\n"


def test_a_full_disk_is_told_as_such_and_every_other_fault_of_ours_is_temporary() -> None:
    for number in range(1, 134):
        assert 400 <= reply_to(OSError(number, "")).code < 500
    assert reply_to(OSError(28, "No space left on device")) is reply.INSUFFICIENT_STORAGE
    assert reply_to(OSError()) is reply.LOCAL_ERROR
