"""What each service has: its commands, where they lead, its extensions, and what is asked of a sender."""

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from mailsrv.model import reply
from mailsrv.model.envelope import Sender
from mailsrv.protocol.smtp_commands import Refused, Verb, parse_auth
from mailsrv.protocol.smtp_events import Hello, Limits, Security, Service


class State(Enum):
    """Where the dialogue stands."""

    CONNECTED = auto()
    SECURING = auto()  # TLS begins; what was said before is forgotten
    GREETED = auto()
    AUTHENTICATING = auto()
    HAS_SENDER = auto()
    HAS_RECIPIENT = auto()
    IN_CONTENT = auto()
    HAS_CHUNKS = auto()
    CLOSED = auto()


_MAIL: Final = frozenset(Verb) - {Verb.LHLO, Verb.AUTH}
VERBS: Final[dict[Service, frozenset[Verb]]] = {
    Service.MAIL: _MAIL,
    Service.SUBMISSION: _MAIL | {Verb.AUTH},
    Service.LMTP: _MAIL - {Verb.EHLO, Verb.HELO, Verb.STARTTLS} | {Verb.LHLO},  # RFC 2033 §4.1
}

# RFC 5321 §4.1.4. BDAT has its say after the octets that follow it, so it is looked up there.
ANYWHERE: Final = frozenset(
    {Verb.NOOP, Verb.HELP, Verb.VRFY, Verb.RSET, Verb.QUIT, Verb.EHLO, Verb.HELO, Verb.LHLO, Verb.BDAT}
)

# A pair that is absent, and not of a verb allowed anywhere, is a bad sequence (503).
AFTER: Final[dict[tuple[State, Verb], State]] = {
    (State.CONNECTED, Verb.STARTTLS): State.SECURING,  # RFC 3207 §4 asks for no EHLO before it, and some say none
    (State.GREETED, Verb.STARTTLS): State.SECURING,
    (State.GREETED, Verb.AUTH): State.AUTHENTICATING,
    (State.GREETED, Verb.MAIL): State.HAS_SENDER,
    (State.HAS_SENDER, Verb.RCPT): State.HAS_RECIPIENT,
    (State.HAS_RECIPIENT, Verb.RCPT): State.HAS_RECIPIENT,
    (State.HAS_RECIPIENT, Verb.DATA): State.IN_CONTENT,
    (State.HAS_RECIPIENT, Verb.BDAT): State.HAS_CHUNKS,
    (State.HAS_CHUNKS, Verb.BDAT): State.HAS_CHUNKS,
}


def extensions(service: Service, limits: Limits, security: Security) -> Iterator[str]:
    """The lines of EHLO and LHLO behind the first (RFC 5321 §4.1.1.1), each true at this moment."""
    yield from ("PIPELINING", f"SIZE {limits.max_message_octets}", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING")
    yield "ENHANCEDSTATUSCODES"
    yield f"LIMITS MAILMAX={limits.max_messages} RCPTMAX={limits.max_recipients}"  # RFC 9422 §4
    if service is not Service.LMTP:
        if security.is_encrypted:
            yield "REQUIRETLS"  # RFC 8689 §2: offered within TLS only
        elif security.can_encrypt:
            yield "STARTTLS"
    if service is Service.SUBMISSION and security.mechanisms:
        yield f"AUTH {' '.join(security.mechanisms)}"
    yield "HELP"


def protocol_name(service: Service, hello: Hello, *, encrypted: bool, authenticated: bool, international: bool) -> str:
    """What a Received line calls a transaction (RFC 3848; RFC 6531 §4.3 where it is internationalised)."""
    if service is Service.LMTP:
        return "UTF8LMTP" if international else "LMTP"
    if not hello.extended:
        return "SMTP"
    return f"{'UTF8SMTP' if international else 'ESMTP'}{'S' if encrypted else ''}{'A' if authenticated else ''}"


def expect_encryption_to_be_possible(security: Security) -> None:
    """Raise Refused where STARTTLS cannot be followed."""
    if security.is_encrypted:
        raise Refused(reply.BAD_SEQUENCE)
    if not security.can_encrypt:
        raise Refused(reply.TLS_NOT_AVAILABLE)  # RFC 3207 §4


def expect_authentication(service: Service, security: Security, identity: str) -> None:
    """Raise Refused where MAIL needs a login that there was not (RFC 6409 §4.3)."""
    if service is Service.SUBMISSION and not identity:
        is_possible = security.is_encrypted or security.mechanisms
        raise Refused(reply.AUTHENTICATION_REQUIRED if is_possible else reply.ENCRYPTION_REQUIRED)


def allowed_sender(sender: Sender, service: Service, security: Security) -> Sender:
    """What counts of MAIL; raises Refused where the service, as it is secured now, does not have a parameter."""
    keywords = dict(sender.parameters)
    if "REQUIRETLS" in keywords and not security.is_encrypted:
        raise Refused(reply.ENCRYPTION_NEEDED)
    if "AUTH" in keywords and service is not Service.SUBMISSION:
        raise Refused(reply.UNKNOWN_PARAMETER)
    # RFC 4954 §5: one who is not trusted to say who first submitted it counts as one who said nothing.
    return Sender(sender.reverse_path, tuple(each for each in sender.parameters if each[0] != "AUTH"))


def parse_offered_auth(argument: str, security: Security) -> tuple[str, bytes | None]:
    """The argument of AUTH; raises Refused, also where its mechanism is not offered now."""
    if not security.mechanisms:
        is_in_clear = security.can_encrypt and not security.is_encrypted
        raise Refused(reply.AUTH_NEEDS_ENCRYPTION if is_in_clear else reply.LOGIN_NOT_AVAILABLE)
    mechanism, response = parse_auth(argument)
    if mechanism not in security.mechanisms:
        raise Refused(reply.UNKNOWN_MECHANISM)
    return mechanism, response
