"""Where a forward-path leads: to mailboxes here, to other hosts, or nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import Mailbox
from mailsrv.model.mistake import Mistake
from mailsrv.model.reply import Reply
from mailsrv.store.accounts import Account, Accounts, Aliases, parse_accounts, parse_aliases
from mailsrv.store.kept import Kept


@dataclass(slots=True)
class Route:
    """What one forward-path comes to; keyed by Mailbox.key, so that nobody gets a message twice."""

    local: dict[str, Account] = field(default_factory=dict)
    remote: dict[str, Mailbox] = field(default_factory=dict)
    refusal: Reply | None = None  # set if it leads nowhere, or part of it does


class Directory:
    """Domains, accounts and aliases as they stand now; edits of the files take effect at the next question."""

    def __init__(self, config: Config) -> None:
        no_accounts: Accounts = {}
        no_aliases: Aliases = {}
        self._domains = frozenset(domain.lower() for domain in config.domains)
        self._default_domain = config.domains[0]
        self._accounts = Kept(config.accounts, parse_accounts, no_accounts, is_optional=False)
        self._aliases = Kept(config.aliases, parse_aliases, no_aliases, is_optional=True)
        self.mistakes()  # reads both: from now on there is a last good one

    def mistakes(self) -> list[Mistake]:
        """What is wrong with the files as they stand; meanwhile the last good ones hold."""
        self._accounts.current()
        self._aliases.current()
        return [kept.mistake for kept in (self._accounts, self._aliases) if kept.mistake is not None]

    def account(self, name: str) -> Account | None:
        """The account of a login name: an address, or a local part of the first domain."""
        key = name if "@" in name else f"{name}@{self._default_domain}"
        return self._accounts.current().get(key.lower())

    def dangling(self) -> list[tuple[str, str]]:
        """Aliases that lead nowhere, each with what is wrong."""
        found = []
        for key in self._aliases.current():
            local_part, _, domain = key.rpartition("@")
            refusal = self.route(Mailbox(local_part, domain)).refusal
            if refusal is not None:
                found.append((key, refusal.text))
        return found

    def is_local(self, mailbox: Mailbox) -> bool:
        """Whether we are the ones to know what becomes of this mailbox."""
        return not mailbox.domain or mailbox.domain.lower() in self._domains

    def route(self, forward_path: Mailbox) -> Route:
        """Follow aliases until accounts and other hosts are left."""
        route = Route()
        followed: dict[str, bool] = {}  # aliases by key, and whether everything that they lead to is settled
        todo: list[Mailbox | str] = [forward_path]
        while todo:
            match todo.pop():
                case str(key):
                    followed[key] = True
                case mailbox if not self.is_local(mailbox):
                    route.remote[mailbox.key] = mailbox
                case mailbox:
                    todo += self._settle(mailbox, route, followed)
        return route

    def _settle(self, mailbox: Mailbox, route: Route, followed: dict[str, bool]) -> Sequence[Mailbox | str]:
        """Settle a mailbox here; or of an alias not yet followed, what it leads to (from the last), its key first."""
        mailbox = mailbox if mailbox.domain else Mailbox(mailbox.local_part, self._default_domain)
        targets = self._targets(mailbox)
        if targets and mailbox.key not in followed:
            followed[mailbox.key] = False
            return (mailbox.key, *reversed(targets))
        if followed.get(mailbox.key):  # met again on another way, and no loop
            return ()
        if account := self._accounts.current().get(mailbox.key):
            # An alias that names its own address means the account of that name.
            route.local[mailbox.key] = account
        else:
            route.refusal = reply.ALIAS_LOOP if targets else self._unknown()
        return ()

    def _unknown(self) -> Reply:
        """Somebody unknown while a file is broken may be whom the broken edit was about: our fault, so temporary."""
        return reply.LOCAL_ERROR if self.mistakes() else reply.NO_SUCH_MAILBOX

    def _targets(self, mailbox: Mailbox) -> Sequence[Mailbox]:
        aliases, accounts = self._aliases.current(), self._accounts.current()
        if mailbox.key in aliases:
            return aliases[mailbox.key]
        if mailbox.is_postmaster and accounts and mailbox.key not in accounts:
            # RFC 5321 §4.5.1: postmaster is always there; the first account hears of it.
            return (next(iter(accounts.values())).mailbox,)
        return ()
