"""Strategies of hypothesis for the values of mailsrv.model: everything that the grammars allow."""

from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st

from mailsrv.model.address import MAX_LOCAL_PART, Mailbox
from mailsrv.model.envelope import Arrival, Envelope, Recipient, Sender
from mailsrv.model.identity import new_entry_id
from mailsrv.model.parameters import Parameters

_ATEXT: Final = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
_PRINTABLE: Final = "".join(map(chr, range(32, 127)))

_atoms = st.text(_ATEXT, min_size=1, max_size=10)
_dotted = st.lists(_atoms, min_size=1, max_size=4).map(".".join)
_local_parts = _dotted | st.text(_PRINTABLE, min_size=1, max_size=MAX_LOCAL_PART)
_sub_domains = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
_domains = (
    st.lists(_sub_domains, min_size=1, max_size=5).map(".".join)
    | st.ip_addresses(v=4).map(lambda address: f"[{address}]")
    | st.ip_addresses(v=6).map(lambda address: f"[IPv6:{address}]")
)

mailboxes: st.SearchStrategy[Mailbox] = st.builds(Mailbox, _local_parts, _domains)
nearly_addresses: st.SearchStrategy[str] = st.lists(
    st.sampled_from(
        ["<", ">", "@", ".", '"', "\\", "[", "]", "IPv6:", "1.2.3.4", "::1", "%", ":", ",", "a", "b-", " "]
    ),
    max_size=12,
).map("".join)

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
