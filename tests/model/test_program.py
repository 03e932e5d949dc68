"""Names of programs and of their processes."""

from mailsrv.model.program import is_copy, is_first, processes_of, program_of, supervisor_name


def test_a_program_with_one_process_has_its_plain_name() -> None:
    assert program_of("pop3") == supervisor_name("pop3") == "pop3"
    assert is_first("pop3")
    assert not is_copy("pop3")


def test_of_several_processes_each_has_a_number_and_one_is_the_first() -> None:
    assert program_of("smtp_01") == "smtp"
    assert supervisor_name("smtp_01") == "smtp:smtp_01"
    assert [is_first(each) for each in ("smtp_00", "smtp_01", "smtp_10")] == [True, False, False]


def test_a_program_stands_for_all_its_processes_and_a_process_for_itself() -> None:
    names = ["smtp_01", "delivery", "smtp_00", "pop3"]
    assert processes_of("smtp", names) == ["smtp_00", "smtp_01"]
    assert processes_of("smtp_01", names) == processes_of("smtp:smtp_01", names) == ["smtp_01"]
    assert processes_of("pop3", names) == ["pop3"]
    assert processes_of("relay", names) == []
