"""Records of the DNS (RFC 1035) as people write them into a zone file, and as they are compared."""

from dataclasses import dataclass
from typing import Final

MOST_OCTETS: Final = 255  # of one string of a TXT record


@dataclass(frozen=True, slots=True)
class Record:
    """`owner` and names in `value` have no dot at the end; the value of a TXT record is its whole text."""

    owner: str
    kind: str
    value: str

    @property
    def line(self) -> str:
        """A line of a zone file (RFC 1035 §5.1), its names absolute."""
        return f"{self.owner}. IN {self.kind} {self._written()}"

    def _written(self) -> str:
        if self.kind == "TXT":
            return " ".join(strings_of(self.value))
        return f"{self.value}."


def strings_of(text: str) -> list[str]:
    """A text in quotes, in as many strings as it takes (RFC 6376 §3.6.2.2)."""
    octets = text.encode("utf-8")
    pieces = [octets[at : at + MOST_OCTETS] for at in range(0, len(octets), MOST_OCTETS)] or [b""]
    return ['"' + "".join(_escaped(octet) for octet in piece) + '"' for piece in pieces]


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return f"\\{chr(octet)}"
    return chr(octet) if 32 <= octet < 127 else f"\\{octet:03d}"
