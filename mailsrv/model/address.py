"""Mailboxes and paths: RFC 5321 §4.1.2 as RFC 6531 §3.3 extends it, for the wire and for the disk alike.

The grammar is SMTP's own, never that of message headers (RFC 5322): comments, folding and display
names are errors here. The null reverse-path is `None`, a type of its own and not a string. Whether an address
beyond ASCII may be used is for the session to say, which knows of SMTPUTF8: it asks `is_ascii`.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from mailsrv.model.international import domain_key, is_visible, local_part_key, to_a_labels

# In octets, also of UTF-8.
MAX_LOCAL_PART: Final = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN: Final = 255  # §4.5.3.1.2
MAX_PATH: Final = 256  # §4.5.3.1.3

_UTF8 = "\x80-\U0010ffff"  # UTF8-non-ascii; is_visible tells which of them
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~" + _UTF8 + "-]+"
_DOT_STRING = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")  # Dot-string = Atom *("." Atom)
_QUOTED_STRING = re.compile(rf'"((?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*)"')  # qtextSMTP / quoted-pairSMTP
_LET_DIG = f"[A-Za-z0-9{_UTF8}]"
_SUB_DOMAIN = f"{_LET_DIG}(?:[A-Za-z0-9{_UTF8}-]*{_LET_DIG})?"  # or U-label
_DOMAIN = re.compile(rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*")
_ADDRESS_LITERAL = re.compile(r"\[([^\[\]\\\s]+)\]")
_SOURCE_ROUTE = re.compile(rf"@{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*(?:,@{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*)*:")
_QUOTED_PAIR = re.compile(r"\\(.)")


class GrammarError(ValueError):
    """Text that is not what the grammar expects there; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """`local-part@domain`, the local part without its quotes. The domain is empty for `<Postmaster>` alone.

    No path has an empty local part: it stands for everybody in a domain, where one may be named.
    """

    local_part: str
    domain: str

    @property
    def key(self) -> str:
        """The form to compare and look up by: mailsrv holds its own mailboxes equal in any case and any spelling."""
        text = f"{self.local_part}@{self.domain}"
        return text.lower() if text.isascii() else f"{local_part_key(self.local_part)}@{domain_key(self.domain)}"

    @property
    def exact_key(self) -> str:
        """The same for a mailbox elsewhere: what its local part means, only its own host knows (RFC 5321 §2.4)."""
        return f"{self.local_part}@{domain_key(self.domain)}"

    @property
    def is_ascii(self) -> bool:
        """Whether it can be used without SMTPUTF8."""
        return self.local_part.isascii() and self.domain.isascii()

    @property
    def is_postmaster(self) -> bool:
        """RFC 5321 §4.5.1: postmaster is known in any case."""
        return self.local_part.lower() == "postmaster"

    def __str__(self) -> str:
        local_part = self.local_part
        if local_part and not _DOT_STRING.fullmatch(local_part):
            local_part = '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'
        return f"{local_part}@{self.domain}" if self.domain else local_part


ReversePath: TypeAlias = Mailbox | None


def render_path(path: ReversePath) -> str:
    """`<a@example.org>`; the null reverse-path is `<>`."""
    return f"<{path or ''}>"


def parse_mailbox(text: str) -> Mailbox:
    """The whole of `text` as a Mailbox; raises GrammarError."""
    mailbox, end = _mailbox_at(text, 0)
    if end != len(text):
        raise GrammarError(f"expected the end of the address after {text[:end]!r}")
    _check_octets(render_path(mailbox), MAX_PATH, "an address in brackets")  # or no envelope could be read again
    return mailbox


def parse_reverse_path(text: str) -> tuple[ReversePath, str]:
    """The path that `text` begins with, and what stands after it; raises GrammarError."""
    if text.startswith("<>"):
        return None, text[2:]
    return _path(text, bare_postmaster=False)


def parse_forward_path(text: str) -> tuple[Mailbox, str]:
    """The path that `text` begins with, and what stands after it; raises GrammarError."""
    return _path(text, bare_postmaster=True)


def _path(text: str, *, bare_postmaster: bool) -> tuple[Mailbox, str]:
    path, bracket, rest = text.partition(">")
    if not bracket or '"' in path:  # a quoted string may have brackets
        return _parsed_path(text, bare_postmaster=bare_postmaster)
    mailbox, more = _known_path(path + bracket, bare_postmaster=bare_postmaster)
    return mailbox, more + rest


@functools.lru_cache(maxsize=512)
def _known_path(text: str, *, bare_postmaster: bool) -> tuple[Mailbox, str]:
    """The same few addresses come again and again."""
    return _parsed_path(text, bare_postmaster=bare_postmaster)


def _parsed_path(text: str, *, bare_postmaster: bool) -> tuple[Mailbox, str]:
    if not text.startswith("<"):
        raise GrammarError("expected a path in angle brackets, such as <user@example.org>")
    start = 1
    if route := _SOURCE_ROUTE.match(text, start):  # Appendix C: accepted, and ignored
        _check_octets(route.group(), MAX_PATH, "a route")
        start = route.end()
    if bare_postmaster and text[start : start + 11].lower() == "postmaster>":  # §4.1.1.3
        return Mailbox(text[start : start + 10], ""), text[start + 11 :]
    mailbox, end = _mailbox_at(text, start)
    if text[end : end + 1] != ">":
        raise GrammarError(f"expected '>' after {text[:end]!r}")
    _check_octets(text[: end + 1], MAX_PATH, "a path")
    return mailbox, text[end + 1 :]


def _mailbox_at(text: str, start: int) -> tuple[Mailbox, int]:
    local_part, at = _local_part_at(text, start)
    _check_octets(local_part, MAX_LOCAL_PART, "a local part")
    if text[at : at + 1] != "@":
        raise GrammarError(f"expected '@' and a domain after {text[start:at]!r}")
    domain, end = _domain_at(text, at + 1)
    return Mailbox(local_part, domain), end


def _local_part_at(text: str, start: int) -> tuple[str, int]:
    if quoted := _QUOTED_STRING.match(text, start):
        local_part = _QUOTED_PAIR.sub(r"\1", quoted.group(1))
        if not local_part:
            raise GrammarError("expected a local part that is not empty")
        return local_part, quoted.end()
    if dotted := _DOT_STRING.match(text, start):
        return dotted.group(), dotted.end()
    raise GrammarError("expected the local part of an address")


def _domain_at(text: str, start: int) -> tuple[str, int]:
    if literal := _ADDRESS_LITERAL.match(text, start):
        _check_literal(literal.group(1))
        return literal.group(), literal.end()
    match = _DOMAIN.match(text, start)
    if match is None:
        raise GrammarError("expected a domain or an address literal")
    domain = match.group()
    _check_octets(domain, MAX_DOMAIN, "a domain")
    if not domain.isascii():
        _check_u_labels(domain)
    return domain, match.end()


def _check_octets(text: str, most: int, what: str) -> None:
    # The grammar of ASCII leaves out what cannot be seen.
    octets = len(text) if text.isascii() else len(_visible(text).encode())
    if octets > most:
        raise GrammarError(f"expected {what} of at most {most} octets")


def _visible(text: str) -> str:
    if is_visible(text):
        return text
    hidden = next(each for each in text if not is_visible(each))
    raise GrammarError(f"expected an address of characters that can be seen, not U+{ord(hidden):04X}")


def _check_u_labels(domain: str) -> None:
    try:
        to_a_labels(domain)
    except ValueError as error:
        raise GrammarError(f"expected a domain by IDNA, not {domain!r}") from error


def _check_literal(text: str) -> None:
    # RFC 5321 §4.1.3: IPv4, or IPv6 behind its tag.
    try:
        if text[:5].lower() == "ipv6:" and "%" not in text:  # a scope means nothing on another machine
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError as error:
        raise GrammarError(f"expected an IP address in brackets, not {text!r}") from error
