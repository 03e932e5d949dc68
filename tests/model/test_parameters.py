"""The parameters of MAIL and RCPT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.address import GrammarError
from mailsrv.model.parameters import Parameters, parse_parameters, render_parameters, value_of
from tests.model import words


@given(words.parameters)
def test_parameters_that_are_rendered_are_read_again(parameters: Parameters) -> None:
    assert parse_parameters(render_parameters(parameters)) == parameters


@given(st.text() | st.text(alphabet="AB-=; x"))
def test_any_text_gives_parameters_or_a_grammar_error(text: str) -> None:
    try:
        parameters = parse_parameters(text)
    except GrammarError:
        return
    assert parse_parameters(render_parameters(parameters)) == parameters


def test_keywords_are_known_in_any_case_and_values_stay_as_they_are() -> None:
    assert parse_parameters(" body=8BITmime  SmtpUtf8 ") == (("BODY", "8BITmime"), ("SMTPUTF8", None))


@pytest.mark.parametrize("text", ["SIZE=1 size=2", "=1", "A=", "A=b=c", "-A", "A=é"])
def test_what_is_no_parameter_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        parse_parameters(text)


def test_a_value_is_found_by_its_keyword() -> None:
    parameters = parse_parameters("NOTIFY=NEVER SMTPUTF8")
    assert value_of(parameters, "NOTIFY") == "NEVER"
    assert value_of(parameters, "SMTPUTF8") is None
    assert value_of(parameters, "ORCPT") is None
