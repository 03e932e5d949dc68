"""The commands of SMTP and LMTP: their verbs, and their arguments by the grammar."""

import re
from enum import Enum
from typing import Final

from mailsrv.model import reply
from mailsrv.model.address import GrammarError, parse_forward_path, parse_reverse_path
from mailsrv.model.envelope import Recipient, Sender
from mailsrv.model.parameters import Parameters, parse_parameters
from mailsrv.model.reply import Reply
from mailsrv.model.xtext import to_utf8_addr_xtext
from mailsrv.protocol import sasl, smtp_parameters
from mailsrv.protocol.lines import Fault, Line

MAX_COMMAND: Final = 512  # octets with CRLF, RFC 5321 §4.5.3.1.4
MAX_ENVELOPE: Final = 1_000_000  # octets of all RCPT of a transaction: less than a spool file's envelope may take
MAX_AUTH: Final = 12_288  # octets without CRLF, RFC 4954 §4


class Verb(Enum):
    """The commands, each with its syntax for HELP."""

    EHLO = "EHLO domain"
    HELO = "HELO domain"
    LHLO = "LHLO domain"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH mechanism [initial-response]"
    MAIL = "MAIL FROM:<reverse-path> [parameters]"
    RCPT = "RCPT TO:<forward-path> [parameters]"
    DATA = "DATA"
    BDAT = "BDAT octets [LAST]"
    RSET = "RSET"
    NOOP = "NOOP [text]"
    VRFY = "VRFY text"
    HELP = "HELP [command]"
    QUIT = "QUIT"


# Octets of a command line with CRLF. Each extension adds what its parameters take.
ROOM: Final = {
    Verb.AUTH: MAX_AUTH + 2,
    Verb.MAIL: MAX_COMMAND + smtp_parameters.room_of(smtp_parameters.MAIL),
    Verb.RCPT: MAX_COMMAND + smtp_parameters.room_of(smtp_parameters.RCPT),
    Verb.BDAT: MAX_AUTH + 2,  # as long as any: to refuse it for its length would leave the octets that follow
}
MAX_LINE: Final = max(ROOM.values())

# §4.1.1.1 asks for a domain or a literal. Clients send what their host is called; refused is only what cannot
# stand in a trace line.
HELLO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]-]+")

# Commands of RFC 5321, RFC 1985 and RFC 821 that this server does not have.
KNOWN_ELSEWHERE: Final = frozenset({"EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML"})

_CHUNK: Final = re.compile(r"(\d{1,20})( +LAST)?", re.IGNORECASE | re.ASCII)  # RFC 3030 §2

_UTF8_ORCPT: Final = re.compile(r"ORCPT=utf-8;[^ \t]+", re.IGNORECASE)
_BEYOND_ASCII: Final = re.compile(r"[^\x00-\x7f]")


class Refused(Exception):
    """A command that the session answers by itself, with an error."""

    def __init__(self, answer: Reply) -> None:
        super().__init__(str(answer))
        self.answer = answer


def parse_command(line: Line) -> tuple[Verb, str]:
    """The verb of a command line and its argument; raises Refused.

    BDAT with a faulty line has no argument: as octets follow it, it has to be known as BDAT.
    """
    if line.fault and _keyword(line.beginning[:5].decode("latin-1")) in {"BDAT ", "BDAT\r", "BDAT\n"}:
        return Verb.BDAT, ""
    if line.fault is Fault.TOO_LONG:
        raise Refused(reply.LINE_TOO_LONG)
    if line.fault is Fault.BARE_LINE_END:
        raise Refused(reply.BARE_LINE_END)
    first, _, rest = line.octets.partition(b" ")
    word = _keyword(first.decode("utf-8", "replace"))
    verb = Verb.__members__.get(word)
    if len(line.octets) + 2 > (ROOM.get(verb, MAX_COMMAND) if verb else MAX_COMMAND):
        raise Refused(reply.LINE_TOO_LONG)
    if verb is None:
        is_known = word in KNOWN_ELSEWHERE  # RFC 5321 §4.2.4
        raise Refused(reply.NOT_IMPLEMENTED if is_known else reply.UNKNOWN_COMMAND)
    try:
        # RFC 6531 §3.3; what has to be ASCII is checked where it is used. BDAT judges all by itself: octets follow it.
        argument = rest.decode("utf-8", "replace" if verb is Verb.BDAT else "strict")
    except UnicodeDecodeError as error:
        raise Refused(reply.SYNTAX.saying("commands are in ASCII, addresses may be in UTF-8")) from error
    return verb, argument.strip(" ")


def parse_mail(argument: str, max_message_octets: int) -> Sender:
    """The argument of MAIL; raises Refused, also where the size that it declares is too large."""
    text = _after_keyword(Verb.MAIL, argument, "FROM:")
    try:
        reverse_path, rest = parse_reverse_path(text)
        parameters = parse_parameters(rest)
    except GrammarError as error:
        raise Refused(syntax(Verb.MAIL, error)) from error
    _check_parameters(Verb.MAIL, rest, smtp_parameters.fault_of(parameters, smtp_parameters.MAIL))
    given = dict(parameters)
    if int(given.get("SIZE") or 0) > max_message_octets:  # RFC 1870 §6.1
        raise Refused(reply.MESSAGE_TOO_BIG)
    if reverse_path is not None and not reverse_path.is_ascii and "SMTPUTF8" not in given:  # RFC 6531 §3.5
        raise Refused(reply.NOT_ASCII)
    return Sender(reverse_path, parameters)


def parse_rcpt(argument: str, mail: Parameters) -> Recipient:
    """The argument of RCPT after a MAIL with these parameters; raises Refused."""
    text = _after_keyword(Verb.RCPT, argument, "TO:")
    takes_utf8 = "SMTPUTF8" in dict(mail)
    try:
        forward_path, rest = parse_forward_path(text)
        parameters = parse_parameters(_with_ascii_orcpt(rest) if takes_utf8 else rest)
    except GrammarError as error:
        raise Refused(syntax(Verb.RCPT, error)) from error
    _check_parameters(Verb.RCPT, rest, smtp_parameters.fault_of(parameters, smtp_parameters.RCPT))
    if not forward_path.is_ascii and not takes_utf8:  # RFC 6531 §3.5
        raise Refused(reply.NOT_ASCII)
    return Recipient(forward_path, parameters)


def _with_ascii_orcpt(text: str) -> str:
    """RFC 6533 §3: an original recipient may come as utf-8-addr-unitext, and is kept in the form that is ASCII."""
    return _UTF8_ORCPT.sub(lambda orcpt: _BEYOND_ASCII.sub(lambda c: to_utf8_addr_xtext(c[0]), orcpt[0]), text)


def parse_auth(argument: str) -> tuple[str, bytes | None]:
    """The mechanism and the initial response of AUTH; raises Refused."""
    mechanism, _, initial = argument.partition(" ")
    if not mechanism:
        raise Refused(syntax(Verb.AUTH))
    if not initial:
        return _keyword(mechanism), None
    return _keyword(mechanism), _expect_base64(sasl.decode_initial(initial.encode()))


def parse_response(line: Line) -> bytes:
    """The response to a challenge; raises Refused, also where the client cancels."""
    if line.fault is not None:
        raise Refused(reply.AUTH_LINE_TOO_LONG if line.fault is Fault.TOO_LONG else reply.BARE_LINE_END)
    if line.octets == b"*":
        raise Refused(reply.CANCELLED)  # RFC 4954 §4
    return _expect_base64(sasl.decode(line.octets))


def _expect_base64(octets: bytes | None) -> bytes:
    if octets is None:
        raise Refused(reply.NOT_BASE64)
    return octets


def parse_bdat(argument: str) -> tuple[int, bool] | None:
    """The octets of a chunk and whether it is the last, or None where that cannot be told."""
    chunk = _CHUNK.fullmatch(argument)
    return (int(chunk[1]), chunk[2] is not None) if chunk else None


def _check_parameters(verb: Verb, text: str, fault: Reply | None) -> None:
    if text and not text.startswith(" "):
        raise Refused(syntax(verb))
    if fault is not None:
        raise Refused(fault)


def _keyword(word: str) -> str:
    """The word in capitals; empty where it is not ASCII, as there are other letters that would become ASCII ones."""
    return word.upper() if word.isascii() else ""


def _after_keyword(verb: Verb, argument: str, keyword: str) -> str:
    if _keyword(argument[: len(keyword)]) != keyword:
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


def help_on(argument: str, verbs: frozenset[Verb]) -> Reply:
    """The answer to HELP, in a service that has these verbs."""
    asked = _keyword(argument)
    if argument and (asked not in Verb.__members__ or Verb[asked] not in verbs):
        return reply.SYNTAX.saying("no help on that, HELP alone lists the commands")
    text = Verb[asked].value if asked else "\n".join(verb.value for verb in Verb if verb in verbs)
    return reply.HELP.saying(text)
