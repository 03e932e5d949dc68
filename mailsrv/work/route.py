"""Following a forward-path, rule by rule, until accounts and mailboxes elsewhere are left, or nothing.

The rules, in the order in which they are asked: inbound transforms, once; then, of an address here, a list, an alias,
an account of that name; the same without its detail (RFC 5233); postmaster; the catch-all of the domain. What an alias
or a list leads to is asked the same again. Every rule that is asked can be noted, for people to read.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from mailsrv.model import reply
from mailsrv.model.address import Mailbox, ReversePath
from mailsrv.model.international import domain_key
from mailsrv.model.reply import Reply
from mailsrv.store.accounts import Account, Accounts, Aliases
from mailsrv.store.lists import DistributionList, Lists
from mailsrv.store.transforms import Transforms, transformed

# A rule that leads on: its name, the key of what it stands for, and the addresses that it leads to.
Alias: TypeAlias = tuple[str, str, tuple[Mailbox, ...]]


@dataclass(frozen=True, slots=True)
class Tables:
    """All that is asked, as it stands at one moment; `is_whole` where no file has a mistake."""

    domains: frozenset[str]
    default_domain: str
    delimiter: str  # between user and detail; empty for none
    accounts: Accounts
    aliases: Aliases
    lists: Lists
    transforms: Transforms
    is_whole: bool

    def is_local(self, mailbox: Mailbox) -> bool:
        """Whether we are the ones to know what becomes of this mailbox."""
        return not mailbox.domain or domain_key(mailbox.domain) in self.domains

    def completed(self, mailbox: Mailbox) -> Mailbox:
        """`<Postmaster>` is one of the first domain."""
        return mailbox if mailbox.domain else Mailbox(mailbox.local_part, self.default_domain)

    def names(self, mailbox: Mailbox) -> tuple[Mailbox, ...]:
        """What a local address is looked up as: itself, then without its detail."""
        user, delimiter, _ = mailbox.local_part.partition(self.delimiter) if self.delimiter else ("", "", "")
        return (mailbox, Mailbox(user, mailbox.domain)) if user and delimiter else (mailbox,)

    def fallback(self, mailbox: Mailbox) -> Alias:
        """What stands in for a name that there is not."""
        if mailbox.is_postmaster and self.accounts:
            # RFC 5321 §4.5.1: postmaster is always there; the first account hears of it.
            return "postmaster", mailbox.key, (next(iter(self.accounts.values())).mailbox,)
        everybody = Mailbox("", mailbox.domain).key
        return "catch-all", everybody, self.aliases.get(everybody, ())


@dataclass(frozen=True, slots=True)
class Way:
    """How a destination was come to: by which address of ours last, if any; and by which list, if any, innermost."""

    by: Mailbox | None = None
    list: DistributionList | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """An account that a forward-path leads to."""

    account: Account
    way: Way


@dataclass(frozen=True, slots=True)
class Remote:
    """A mailbox elsewhere that a forward-path leads to."""

    mailbox: Mailbox
    way: Way


@dataclass(frozen=True, slots=True)
class Lost:
    """An address behind a list that leads nowhere: for the owner of the list to hear of."""

    mailbox: Mailbox
    list: DistributionList
    reason: Reply


@dataclass(frozen=True, slots=True)
class Note:
    """A rule that was asked of an address, and what it said; `depth` counts the aliases and lists on the way there."""

    depth: int
    address: str
    rule: str
    result: str


@dataclass(slots=True)
class Route:
    """What one forward-path comes to; keyed by Mailbox.key or, elsewhere, exact_key: nobody gets a message twice."""

    is_ours: bool  # whether it is for us to know what becomes of it
    local: dict[str, Local] = field(default_factory=dict)
    remote: dict[str, Remote] = field(default_factory=dict)
    refusal: Reply | None = None  # set if it leads nowhere, or part of it does
    lost: list[Lost] = field(default_factory=list)
    lists: list[DistributionList] = field(default_factory=list)
    is_shared: bool = False  # an alias of several addresses stands on the way to all of them

    @property
    def leads_somewhere(self) -> bool:
        return bool(self.local or self.remote or self.lists)


NOWHERE: Final = Way()


class Walk:
    """One forward-path on its way; `notes` collects the rules that are asked, where somebody wants to know."""

    def __init__(
        self,
        tables: Tables,
        reverse_path: ReversePath,
        notes: list[Note] | None = None,
        *,
        judges_posting: bool = True,
        expands_lists: bool = True,
        expanded: Container[str] = (),
    ) -> None:
        self._tables = tables
        self._reverse_path = reverse_path
        self._notes = notes
        self._judges_posting = judges_posting
        self._expands_lists = expands_lists
        self._expanded = expanded  # lists whose members somebody knows already
        self._route = Route(is_ours=False)
        self._followed: dict[str, bool] = {}  # aliases and lists, and whether all that they lead to is settled
        self._todo: list[tuple[Mailbox | str, Way, int]] = []

    def follow(self, forward_path: Mailbox) -> Route:
        """The route of `forward_path`."""
        start = self._transformed(self._tables.completed(forward_path))
        self._route.is_ours = self._tables.is_local(forward_path) or self._tables.is_local(start)
        self._todo = [(start, NOWHERE, 0)]
        while self._todo:
            match self._todo.pop():
                case str(key), _, _:
                    self._followed[key] = True
                case mailbox, way, depth if not self._tables.is_local(mailbox):
                    self._note(depth, mailbox, "domain", "is elsewhere: sent on")
                    self._route.remote.setdefault(mailbox.exact_key, Remote(mailbox, way))
                case mailbox, way, depth:
                    self._settle(self._tables.completed(mailbox), way, depth)
        return self._route

    def _transformed(self, mailbox: Mailbox) -> Mailbox:
        result, by = transformed(mailbox, self._tables.transforms.inbound)
        if self._notes is not None:
            for transform in self._tables.transforms.inbound:
                is_it = transform is by
                self._note(0, mailbox, "transform", transform, f": now {result}" if is_it else ": does not match")
                if is_it:
                    break
        return result

    def _settle(self, mailbox: Mailbox, way: Way, depth: int) -> None:
        tables = self._tables
        for name in tables.names(mailbox):
            if name is not mailbox:
                self._note(depth, mailbox, "detail", "without it: ", name)
            if found := tables.lists.get(name.key):
                self._follow_list(found, way, depth)
                return
            targets = tables.aliases.get(name.key, ())
            if targets and self._follow_alias(name, ("alias", name.key, targets), way, depth):
                return
            if account := tables.accounts.get(name.key):
                # An alias that names its own address means the account of that name.
                self._note(depth, name, "account", "delivered here")
                self._route.local.setdefault(name.key, Local(account, way))
                return
            if targets:
                self._refuse(mailbox, way, reply.ALIAS_LOOP, depth)
                return
            self._note(depth, name, "name", "no list, no alias, no account")
        rule, key, targets = tables.fallback(mailbox)
        if not targets:
            self._refuse(mailbox, way, self._unknown(), depth)
        elif not self._follow_alias(mailbox, (rule, key, targets), way, depth):
            self._refuse(mailbox, way, reply.ALIAS_LOOP, depth)

    def _follow_alias(self, mailbox: Mailbox, alias: Alias, way: Way, depth: int) -> bool:
        """Follow it, if that was not done; False where it is met again on its own way."""
        rule, key, targets = alias
        if key in self._followed:
            if self._followed[key]:
                self._note(depth, mailbox, rule, "followed already")
            return self._followed[key]
        self._note(depth, mailbox, rule, "leads to ", targets)
        self._followed[key] = False
        self._route.is_shared |= len(targets) > 1 and way.list is None
        further = Way(mailbox, way.list)
        self._todo.append((key, way, depth))
        self._todo += [(target, further, depth + 1) for target in reversed(targets)]
        return True

    def _follow_list(self, found: DistributionList, way: Way, depth: int) -> None:
        key = found.mailbox.key
        if key in self._followed:
            if self._followed[key]:
                self._note(depth, found.mailbox, "list", "followed already")
            else:
                self._refuse(found.mailbox, way, reply.ALIAS_LOOP, depth)
            return
        posters = (self._reverse_path, way.list.owner if way.list else self._reverse_path)
        if self._judges_posting and not any(map(found.takes_from, posters)):
            self._note(depth, found.mailbox, "list", "takes mail from ", found.post, " only")
            self._refuse(found.mailbox, way, reply.MAY_NOT_POST, depth)
            return
        self._note(depth, found.mailbox, "list", found.owner, " hears of failures; it leads to ", found.members)
        self._followed[key] = False
        self._route.lists.append(found)
        if not self._expands_lists or key in self._expanded:
            return
        further = Way(found.mailbox, found)
        self._todo.append((key, way, depth))
        self._todo += [(member, further, depth + 1) for member in reversed(found.members)]

    def _refuse(self, mailbox: Mailbox, way: Way, reason: Reply, depth: int) -> None:
        self._note(depth, mailbox, "nowhere", reason)
        if way.list is None:
            self._route.refusal = reason
        else:
            self._route.lost.append(Lost(mailbox, way.list, reason))

    def _unknown(self) -> Reply:
        """Somebody unknown while a file is broken may be whom the broken edit was about: our fault, so temporary."""
        return reply.NO_SUCH_MAILBOX if self._tables.is_whole else reply.LOCAL_ERROR

    def _note(self, depth: int, mailbox: Mailbox, rule: str, *words: object) -> None:
        """The words become text only where somebody wants to know."""
        if self._notes is not None:
            result = "".join(", ".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in words)
            self._notes.append(Note(depth, str(mailbox), rule, result))


def loop_behind(tables: Tables, start: Mailbox) -> tuple[str, ...]:
    """The first way from `start` that leads back to itself, as addresses from there to there; empty where none does."""
    path: list[str] = []
    ways: list[Iterator[Mailbox]] = [iter((start,))]
    settled: set[str] = set()
    while ways:
        mailbox = next(ways[-1], None)
        if mailbox is None:
            ways.pop()
            if path:
                settled.add(path.pop())
            continue
        key, targets = _leads_to(tables, tables.completed(mailbox))
        if key in path and key not in tables.accounts:
            return (*path[path.index(key) :], key)
        if targets and key not in path and key not in settled:
            path.append(key)
            ways.append(iter(targets))
    return ()


def _leads_to(tables: Tables, mailbox: Mailbox) -> tuple[str, tuple[Mailbox, ...]]:
    """The key of the list or the alias that an address stands for, and where that leads."""
    if not tables.is_local(mailbox):
        return mailbox.key, ()
    for name in tables.names(mailbox):
        if found := tables.lists.get(name.key):
            return name.key, found.members
        if name.key in tables.aliases or name.key in tables.accounts:
            return name.key, tables.aliases.get(name.key, ())
    return tables.fallback(mailbox)[1:]
