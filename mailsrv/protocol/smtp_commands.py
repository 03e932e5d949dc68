"""The commands of SMTP (RFC 5321 §4.1): their verbs, and their arguments by the grammar."""

import re
from enum import Enum
from typing import Final

from mailsrv.model import reply
from mailsrv.model.address import GrammarError, parse_forward_path, parse_reverse_path
from mailsrv.model.envelope import Recipient, Sender
from mailsrv.model.parameters import Parameters, parse_parameters, value_of
from mailsrv.model.reply import Reply
from mailsrv.protocol.lines import Fault, Line

MAX_COMMAND: Final = 512  # octets with CRLF, RFC 5321 §4.5.3.1.4
SIZE_PARAMETER_ROOM: Final = 26  # RFC 1870 §3 adds this to MAIL
BODY_PARAMETER_ROOM: Final = 17  # RFC 6152 §2 adds this to MAIL
MAX_LINE: Final = MAX_COMMAND + SIZE_PARAMETER_ROOM + BODY_PARAMETER_ROOM


class Verb(Enum):
    """The commands, each with its syntax for HELP."""

    EHLO = "EHLO domain"
    HELO = "HELO domain"
    MAIL = "MAIL FROM:<reverse-path> [SIZE=octets] [BODY=7BIT|8BITMIME]"
    RCPT = "RCPT TO:<forward-path>"
    DATA = "DATA"
    RSET = "RSET"
    NOOP = "NOOP [text]"
    VRFY = "VRFY text"
    HELP = "HELP [command]"
    QUIT = "QUIT"


# §4.1.1.1 asks for a domain or a literal. Clients send what their host is called; refused is only what cannot
# stand in a trace line.
HELLO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")


# Commands of RFC 5321, RFC 1985 and RFC 821 that this server does not have.
KNOWN_ELSEWHERE: Final = frozenset({"EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML"})


class Refused(Exception):
    """A command that the session answers by itself, with an error."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(str(answer))
        self.answer = answer


def parse_command(line: Line) -> tuple[Verb, str]:
    """The verb of a command line and its argument; raises Refused."""
    if line.fault is Fault.TOO_LONG:
        raise Refused(reply.LINE_TOO_LONG)
    if line.fault is Fault.BARE_LINE_END:
        raise Refused(reply.BARE_LINE_END)
    try:
        text = line.octets.decode("ascii")
    except UnicodeDecodeError as error:
        raise Refused(reply.SYNTAX.saying("commands are in ASCII")) from error
    word, _, argument = text.partition(" ")
    try:
        return Verb[word.upper()], argument.strip(" ")
    except KeyError as error:
        is_known = word.upper() in KNOWN_ELSEWHERE  # RFC 5321 §4.2.4
        raise Refused(reply.NOT_IMPLEMENTED if is_known else reply.UNKNOWN_COMMAND) from error


def parse_rcpt(argument: str) -> Recipient:
    """The argument of RCPT; raises Refused."""
    text = _after_keyword(Verb.RCPT, argument, "TO:")
    try:
        forward_path, rest = parse_forward_path(text)
    except GrammarError as error:
        raise Refused(syntax(Verb.RCPT, error)) from error
    if rest.strip(" "):
        raise Refused(reply.UNKNOWN_PARAMETER)
    return Recipient(forward_path)


def parse_mail(argument: str, max_message_octets: int) -> Sender:
    """The argument of MAIL; raises Refused, also where the size that it declares is too large."""
    text = _after_keyword(Verb.MAIL, argument, "FROM:")
    try:
        reverse_path, rest = parse_reverse_path(text)
        parameters = parse_parameters(rest)
    except GrammarError as error:
        raise Refused(syntax(Verb.MAIL, error)) from error
    if rest and not rest.startswith(" "):
        raise Refused(syntax(Verb.MAIL))
    _check_mail_parameters(parameters, max_message_octets)
    return Sender(reverse_path, parameters)


def _check_mail_parameters(parameters: Parameters, max_message_octets: int) -> None:
    if {keyword for keyword, _ in parameters} - {"SIZE", "BODY"}:
        raise Refused(reply.UNKNOWN_PARAMETER)
    given = dict(parameters)
    if "BODY" in given and (given["BODY"] or "").upper() not in {"7BIT", "8BITMIME"}:
        raise Refused(reply.UNKNOWN_BODY)
    if "SIZE" in given:
        size = value_of(parameters, "SIZE") or ""
        if not size.isdigit() or len(size) > 20:  # RFC 1870 §4: up to 20 digits
            raise Refused(syntax(Verb.MAIL))
        if int(size) > max_message_octets:
            raise Refused(reply.MESSAGE_TOO_BIG)


def _after_keyword(verb: Verb, argument: str, keyword: str) -> str:
    if argument[: len(keyword)].upper() != keyword:
        raise Refused(syntax(verb))
    return argument[len(keyword) :].lstrip(" ")  # §3.3 allows no space there; too many clients send one


def expect_no_argument(verb: Verb, argument: str) -> None:
    """Raise Refused where there is one."""
    if argument:
        raise Refused(syntax(verb))


def syntax(verb: Verb, error: GrammarError | None = None) -> Reply:
    """501, with the syntax that was expected."""
    what = f"{error}; the syntax is {verb.value}" if error else f"the syntax is {verb.value}"
    return reply.SYNTAX.saying(what)


def help_on(argument: str) -> Reply:
    """The answer to HELP."""
    asked = argument.upper()
    if asked and asked not in Verb.__members__:
        return reply.SYNTAX.saying("no help on that, HELP alone lists the commands")
    text = Verb[asked].value if asked else "\n".join(verb.value for verb in Verb)
    return reply.HELP.saying(text)
