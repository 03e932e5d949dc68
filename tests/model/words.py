"""Strategies of hypothesis for the values of mailsrv.model: everything that the grammars allow."""

from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st

from mailsrv.model.address import MAX_LOCAL_PART, Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import new_entry_id
from mailsrv.model.international import is_visible
from mailsrv.model.parameters import Parameters

_ATEXT: Final = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
_PRINTABLE: Final = "".join(map(chr, range(32, 127)))

# Of many scripts, composed and not, with marks, beyond 16 bits, and some that change their length in small letters.
_LETTERS: Final = "äÄßẞİıΣςжДĳ例え用अि가\u0301\u0308\u1100\u1161\u212a\U0001f600"
_visible = st.characters(min_codepoint=0x80).filter(is_visible)

_atoms = st.text(_ATEXT, min_size=1, max_size=10)
_dotted = st.lists(_atoms, min_size=1, max_size=4).map(".".join)
_local_parts = _dotted | st.text(_PRINTABLE, min_size=1, max_size=MAX_LOCAL_PART)
_sub_domains = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_domains = (
    st.lists(_sub_domains, min_size=1, max_size=5).map(".".join)
    | st.ip_addresses(v=4).map(lambda address: f"[{address}]")
    | st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]")
)

_international_atoms = st.text(st.sampled_from(_ATEXT + _LETTERS) | _visible, min_size=1, max_size=10)
_international_local_parts = (
    st.lists(_international_atoms, min_size=1, max_size=3).map(".".join)
    | st.text(st.sampled_from(_PRINTABLE + _LETTERS) | _visible, min_size=1, max_size=20)
).filter(lambda text: len(text.encode()) <= MAX_LOCAL_PART)
_u_labels = st.text("abäöüÄжДпи例え用가", min_size=1, max_size=8)
_international_domains = st.lists(_sub_domains.filter(lambda label: label[2:4] != "--") | _u_labels, min_size=1).map(
    lambda labels: ".".join(labels[:3])
)

ascii_mailboxes: st.SearchStrategy[Mailbox] = st.builds(Mailbox, _local_parts, _domains)
mailboxes: st.SearchStrategy[Mailbox] = ascii_mailboxes | st.builds(
    Mailbox, _local_parts | _international_local_parts, _domains | _international_domains
)
_PARTS_OF_ADDRESSES: Final = (
    *("<", ">", "@", ".", '"', "\\", "[", "]", "IPv6:", "1.2.3.4", "::1", "%", ":", ",", "a", "b-", " "),
    *("ö", "例", "o\u0308", "。", "xn--", "xn--bcher-kva", "\x85", "\u200d", "\u202e", "\u3000", "\udcff", "\ufe0f"),
)
nearly_addresses: st.SearchStrategy[str] = st.lists(st.sampled_from(_PARTS_OF_ADDRESSES), max_size=12).map("".join)

_values = st.none() | st.text("".join(chr(n) for n in range(33, 127) if chr(n) != "="), min_size=1, max_size=12)
parameters: st.SearchStrategy[Parameters] = st.dictionaries(
    st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,8}", fullmatch=True), _values, max_size=4
).map(lambda found: tuple(found.items()))

# In a spool file a `;` behind a parameter is not part of it, and what begins with X- belongs to somebody else.
_on_disk = parameters.map(
    lambda found: tuple(
        (keyword, value)
        for keyword, value in found
        if not keyword.startswith("X-") and (value is None or not value.endswith(";"))
    )
)
envelopes: st.SearchStrategy[Envelope] = st.builds(
    Envelope,
    st.builds(Sender, st.none() | mailboxes, _on_disk),
    st.lists(st.builds(Recipient, mailboxes, _on_disk), min_size=1, max_size=4).map(tuple),
)

_names = st.text("abcXYZ019._:[]-", min_size=1, max_size=20)
_peers = (st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str)
_moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(5000, 1, 1), timezones=st.just(UTC))
arrivals: st.SearchStrategy[Arrival] = st.builds(Arrival, _moments, st.sampled_from(["drop", "ESMTPSA"])) | st.builds(
    Arrival, _moments, st.sampled_from(["SMTP", "ESMTP"]), _names, _peers
)
entry_ids = _moments.map(new_entry_id)
