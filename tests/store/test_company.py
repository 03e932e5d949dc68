"""Who is waited for with a group, and for how long nobody is."""

from mailsrv.store.company import MOST_WITHOUT, Company


def test_one_alone_waits_for_nobody() -> None:
    company = Company()
    for _ in range(10):
        assert not company.is_awaited(1)
        company.finished(1, 0)


def test_two_that_took_turns_are_awaited_from_then_on() -> None:
    company = Company()
    company.finished(1, 1)
    assert company.is_awaited(1)
    assert not company.is_awaited(2)
    company.finished(2, 0)
    assert company.is_awaited(1)


def test_who_has_gone_is_awaited_once() -> None:
    company = Company()
    company.finished(1, 1)
    company.has_not_come()
    assert not company.is_awaited(1)
    company.finished(1, 0)
    assert not company.is_awaited(1)


def _groups_until_awaited(company: Company) -> int:
    for number in range(2 * MOST_WITHOUT):
        if company.is_awaited(1):
            return number
        company.finished(1, 1)
    raise AssertionError("nobody is awaited any more")


def test_where_it_is_in_vain_again_and_again_ever_fewer_groups_wait() -> None:
    company = Company()
    company.finished(1, 1)
    seen = []
    for _ in range(8):
        company.has_not_come()
        seen.append(_groups_until_awaited(company))
    assert seen == [1, 2, 4, 8, 16, 32, 32, 32]
    company.finished(2, 0)  # they have come
    company.has_not_come()
    assert _groups_until_awaited(company) == 1
