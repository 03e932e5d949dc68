"""Where the fuzzer begins: the golden dialogues, and for the other targets lines that their grammar knows."""

from pathlib import Path
from typing import Final

from tests.fuzz import driver
from tests.protocol.dialogue import FOLDER, Dialogue, read

_DATA: Final = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
_BDAT: Final = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@d.example>\r\n"
_LOGIN: Final = b"EHLO c\r\nAUTH PLAIN AGEAYg==\r\n"
_SMTP: Final = (
    bytes([0, 0, 0x35, 0, 0]) + b"EHLO c\r\n" + _BDAT + b"BDAT 6\r\n\r\nab\r\nBDAT 5 LAST\r\nc\r\n.dQUIT\r\n",
    bytes([2, 0, 0x12, 0, 0]) + b"LHLO c\r\n" + _BDAT + b"DATA\r\n..a\r\n.\r\n" + _BDAT + b"BDAT 1 LAST\r\naNOOP\r\n",
    bytes([0, 3, 0, 0, 0]) + b"HELO c\r\n" + _DATA + b"Received:\r\n" * 101 + b".\r\n",
    bytes([17, 3, 0, 0, 0]) + _LOGIN + _DATA + b"Subject: a\r\n b\r\nDate : c\r\n\r\nbody\r\n.\r\n",
    bytes([17, 3, 1, 0, 0x33]) + _LOGIN + b"YWI=\r\n*\r\n" + _LOGIN + _DATA + b"a\r\n.\r\n",
    bytes([9 | 16, 0, 0, 0, 0]) + b"EHLO c\r\nSTARTTLS\r\n" + _LOGIN + _DATA + b"To: a\r\nbody\r\n.\r\n",
    bytes([9 | 16, 0, 0, 0, 0]) + _LOGIN + b"STARTTLS\r\nEHLO c\r\n" + _DATA + b"a\r\n.\r\n",
    bytes([2, 0, 0, 8, 0]) + b"LHLO c\r\n" + _BDAT + b"BDAT 3 LAST\r\na\r\nNOOP\r\n",
    bytes([0, 0x40, 0x11, 0, 0]) + b"EHLO c\r\n" + _BDAT + b"BDAT 38 LAST\r\n" + b"x" * 38,
    bytes([17, 0xC3, 0, 0, 0]) + _LOGIN + _DATA + b"a" * 990 + b": x\r\nDate: x\r\n\r\n.\r\n",
    bytes([8, 0, 0, 1, 0]) + b"EHLO c\r\nSTARTTLS\r\nSTARTTLS\r\nEHLO c\r\n" + _DATA + b".\r\n",
)
_ADDRESS: Final = (
    b"<alice@example.org> SIZE=12 BODY=8BITMIME SMTPUTF8",
    b'<"a \\" b"@[192.0.2.1]>',
    b"<@r.example,@s.example:a.b@c-d.example> ENVID=a+2Bb",
    b"<a@[IPv6:2001:db8::1]> NOTIFY=NEVER ORCPT=rfc822;a+40b",
    b"<Postmaster>",
    b"<>",
    b'"a b"@c.example',
)
_HEADER: Final = (
    b"To: a@b.example, Bob <c@d.example>\r\nCc: Friends: e@f.example;, g@h.example\r\n",
    b'From: "Doe, J." (a (nested) comment) <a@[192.0.2.1]>\nBcc: <@r.example:a@b.example>,,\n\tc @ d . example\n',
    b"To: =?utf-8?q?a=40b?= <c@d.example>, undisclosed-recipients:;\r\n",
)


def write_seeds(target: str, folder: Path) -> None:
    """The seeds of a target, a file each."""
    for number, octets in enumerate(_seeds(target)):
        (folder / f"seed-{number:03}").write_bytes(octets)


def _seeds(target: str) -> list[bytes]:
    match target:
        case "smtp":
            return [*_SMTP, *(_smtp_seed(read(path)) for path in sorted((FOLDER / "smtp").glob("*.txt")))]
        case "pop3":
            return [b"\x00\x00" + _sent(read(path)) for path in sorted((FOLDER / "pop3").glob("*.txt"))]
        case "address":
            return list(_ADDRESS)
        case _:
            return list(_HEADER)


def _sent(dialogue: Dialogue) -> bytes:
    return b"".join(octets for turn in dialogue.turns for octets in turn.sent)


def _smtp_seed(dialogue: Dialogue) -> bytes:
    """What the client sends, behind the head that makes the same session and the same world of it."""
    settings = dict(dialogue.settings)
    security = settings.get("security", "")
    kind = [each.name for each in driver.SERVICES].index(settings.get("service", "MAIL"))
    kind |= driver.ENCRYPTED * ("encrypted" in security) | driver.CAN_ENCRYPT * ("can-encrypt" in security)
    kind |= driver.HAS_MECHANISMS * ("mechanisms" in settings)
    limits = (
        _place(settings.get("max_message_octets"), driver.MESSAGE_OCTETS)
        | _place(settings.get("max_recipients"), driver.RECIPIENTS) << 2
        | _place(settings.get("max_messages"), driver.MESSAGES) << 4
        | _place(settings.get("max_line_octets"), driver.LINE_OCTETS) << 6
    )
    asked = [(what.partition(" ")[0], answer) for turn in dialogue.turns for what, answer in turn.world]
    questions = [(word, answer) for word, answer in asked if word not in ("content", "header")]
    refusals = sum(1 << place for place, (_, answer) in enumerate(questions[:8]) if answer.isupper())
    logins = [answer for word, answer in questions if word in ("auth", "response")][:4]
    choices = sum(_choice(answer) << 2 * place for place, answer in enumerate(logins))
    return bytes([kind, limits, 0, refusals, choices]) + _sent(dialogue)


def _place(value: str | None, values: tuple[int, ...]) -> int:
    return values.index(int(value)) if value is not None and int(value) in values else 0


def _choice(answer: str) -> int:
    if answer.startswith("challenge"):
        return 3
    return 1 if answer.isupper() else 0
