"""The parameters of MAIL and RCPT (RFC 5321 §4.1.2, esmtp-param), on the wire and in a spool file."""

import re
from typing import Final, TypeAlias

from mailsrv.model.address import GrammarError

# In the order written; keywords in capitals; None where there is no "=".
Parameters: TypeAlias = tuple[tuple[str, str | None], ...]

NONE: Final[Parameters] = ()

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")


def parse_parameters(text: str) -> Parameters:
    """`text` as parameters apart by spaces; raises GrammarError, also where a keyword stands twice."""
    parameters: dict[str, str | None] = {}
    for word in filter(None, text.split(" ")):  # a space, and no other character that a string splits at
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise GrammarError(f"expected KEYWORD or KEYWORD=value, not {word!r}")
        keyword = match.group(1).upper()
        if keyword in parameters:
            raise GrammarError(f"expected {keyword} at most once")
        parameters[keyword] = match.group(2)
    return tuple(parameters.items())


def render_parameters(parameters: Parameters) -> str:
    """The words of `parameters`, each with a space before it."""
    return "".join(f" {keyword}" if value is None else f" {keyword}={value}" for keyword, value in parameters)


def value_of(parameters: Parameters, keyword: str) -> str | None:
    """The value of `keyword`, or None where it is absent or has none."""
    return dict(parameters).get(keyword)
