"""Address transforms: a pattern for addresses, and what becomes of one that it matches.

In a pattern `*` stands for one character or more, on either side of the `@`. In the result, `*` is what the first `*`
matched, the next one what the second matched; or `$1`, `$2` say which. Case does not count.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mailsrv.model.address import GrammarError, Mailbox, parse_mailbox
from mailsrv.model.international import domain_key, local_part_key

_HOLE: Final = re.compile(r"\*|\$([1-9])")
_DOMAIN: Final = re.compile(r"[^\s@*$]+")


@dataclass(frozen=True, slots=True)
class Transform:
    """`pattern` and `result` as they were written."""

    pattern: str
    result: str
    _local_part: re.Pattern[str] = field(repr=False, compare=False)
    _domain: re.Pattern[str] = field(repr=False, compare=False)

    def apply(self, mailbox: Mailbox) -> Mailbox | None:
        """What becomes of `mailbox`; None where the pattern does not match, or what came of it would be no address."""
        local_part = self._local_part.fullmatch(local_part_key(mailbox.local_part))
        domain = self._domain.fullmatch(domain_key(mailbox.domain))
        if local_part is None or domain is None:
            return None
        # Of the local part what was written, in its case, where the comparable form has kept its length.
        is_alike = len(local_part.string) == len(mailbox.local_part)
        source = mailbox.local_part if is_alike else local_part.string
        found = [source[slice(*local_part.span(number))] for number in range(1, len(local_part.groups()) + 1)]
        found += domain.groups()
        holes = iter(found)
        new_local_part, _, new_domain = self.result.rpartition("@")
        result = Mailbox(*(_filled(each, found, holes) for each in (new_local_part, new_domain)))
        try:
            return parse_mailbox(str(result))
        except GrammarError:
            return None

    def __str__(self) -> str:
        return f"{self.pattern} -> {self.result}"


def parse_transform(pattern: str, result: str, *, is_inbound: bool) -> Transform:
    """A transform; raises GrammarError."""
    local_part, at, domain = pattern.rpartition("@")
    if not at or not local_part or not domain or "$" in pattern:
        raise GrammarError("expected a pattern such as *@old.example.org")
    new_local_part, at, new_domain = result.rpartition("@")
    if not at or not new_local_part or not new_domain:
        raise GrammarError("expected a result such as *@example.org")
    if is_inbound and not _DOMAIN.fullmatch(new_domain):
        # What stands there would be for the sender to choose, and to relay through us.
        raise GrammarError("expected a result in one domain, without * and $ behind the @")
    holes = [hole.group(1) for hole in _HOLE.finditer(result)]
    most = pattern.count("*")
    if holes.count(None) > most or any(int(number) > most for number in holes if number):
        raise GrammarError(f"expected no more in the result than the pattern has ({most} of *)")
    _check(new_local_part, new_domain)
    return Transform(pattern, result, _regex(local_part_key(local_part)), _regex(domain_key(domain)))


def _check(local_part: str, domain: str) -> None:
    """Whether an address could come of it."""
    parse_mailbox(f"{_HOLE.sub('x', local_part)}@{_HOLE.sub('x', domain)}")


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def _filled(text: str, found: list[str], holes: Iterator[str]) -> str:
    return _HOLE.sub(lambda hole: found[int(hole.group(1)) - 1] if hole.group(1) else next(holes), text)
