"""Where a forward-path leads: to mailboxes here, to other hosts, or nowhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mailsrv.config import Config
from mailsrv.model import reply
from mailsrv.model.address import Mailbox
from mailsrv.model.international import domain_key
from mailsrv.model.mistake import Mistake
from mailsrv.model.reply import Reply
from mailsrv.store.accounts import Account, Accounts, Aliases, parse_accounts, parse_aliases
from mailsrv.store.kept import Kept


@dataclass(slots=True)
class Route:
    """What one forward-path comes to; keyed by Mailbox.key or, elsewhere, exact_key: nobody gets a message twice."""

    local: dict[str, Account] = field(default_factory=dict)
    remote: dict[str, Mailbox] = field(default_factory=dict)
    refusal: Reply | None = None  # set if it leads nowhere, or part of it does
    is_shared: bool = False  # an alias of several addresses stands on the way to all of them


class Directory:
    """Domains, accounts and aliases as they stand now; edits of the files take effect at the next question."""

    def __init__(self, config: Config) -> None:
        no_accounts: Accounts = {}
        no_aliases: Aliases = {}
        self._domains = frozenset(map(domain_key, config.domains))
        self._default_domain = config.domains[0]
        self._accounts = Kept(config.accounts, parse_accounts, no_accounts, is_optional=False)
        self._aliases = Kept(config.aliases, parse_aliases, no_aliases, is_optional=True)
        self._counted: Accounts | None = None  # what is known of these accounts:
        self._is_ready_for_scram = False
        self.mistakes()  # reads both: from now on there is a last good one

    def mistakes(self) -> list[Mistake]:
        """What is wrong with the files as they stand; meanwhile the last good ones hold."""
        self._accounts.current()
        self._aliases.current()
        return [kept.mistake for kept in (self._accounts, self._aliases) if kept.mistake is not None]

    def account(self, name: str) -> Account | None:
        """The account of a login name: an address, or a local part of the first domain."""
        return self._accounts.current().get(self.key_of(name))

    def key_of(self, name: str) -> str:
        """The same for all ways to write one login name, whether or not there is such an account."""
        local_part, _, domain = name.rpartition("@") if "@" in name else (name, "@", self._default_domain)
        return Mailbox(local_part, domain).key

    def is_ready_for_scram(self) -> bool:
        """Whether every account has a verifier, so that whoever can log in at all can do it by SCRAM."""
        accounts = self._accounts.current()
        if accounts is not self._counted:
            self._is_ready_for_scram = all(account.scram_verifier for account in accounts.values())
            self._counted = accounts
        return self._is_ready_for_scram

    def mailboxes(self) -> list[Mailbox]:
        """The mailboxes of all accounts."""
        return [each.mailbox for each in self._accounts.current().values()]

    def without_verifier(self) -> list[Mailbox]:
        """The accounts that cannot log in by SCRAM."""
        return [each.mailbox for each in self._accounts.current().values() if not each.scram_verifier]

    def is_current(self, account: Account) -> bool:
        """Whether there is still this account, and with the password that it had."""
        found = self._accounts.current().get(account.mailbox.key)
        return found is not None and found.password_hash == account.password_hash

    def may_send_as(self, account: Account, mailbox: Mailbox) -> bool:
        """Whether mail from `mailbox` may come from `account`: it is its address, or an alias that leads there.

        An address that is another account's own stays that one's, even where its mail is passed on to this one.
        """
        accounts, followed = self._accounts.current(), set[str]()
        todo = [mailbox]
        while todo:
            each = self._completed(todo.pop())
            if each.key == account.mailbox.key:
                return True
            if each.key not in followed and each.key not in accounts and self.is_local(each):
                followed.add(each.key)
                todo += self._targets(each)
        return False

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
        return not mailbox.domain or domain_key(mailbox.domain) in self._domains

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
                    route.remote[mailbox.exact_key] = mailbox
                case mailbox:
                    todo += self._settle(mailbox, route, followed)
        return route

    def _settle(self, mailbox: Mailbox, route: Route, followed: dict[str, bool]) -> Sequence[Mailbox | str]:
        """Settle a mailbox here; or of an alias not yet followed, what it leads to (from the last), its key first."""
        mailbox = self._completed(mailbox)
        targets = self._targets(mailbox)
        if targets and mailbox.key not in followed:
            followed[mailbox.key] = False
            route.is_shared |= len(targets) > 1
            return (mailbox.key, *reversed(targets))
        if followed.get(mailbox.key):  # met again on another way, and no loop
            return ()
        if account := self._accounts.current().get(mailbox.key):
            # An alias that names its own address means the account of that name.
            route.local[mailbox.key] = account
        else:
            route.refusal = reply.ALIAS_LOOP if targets else self._unknown()
        return ()

    def _completed(self, mailbox: Mailbox) -> Mailbox:
        return mailbox if mailbox.domain else Mailbox(mailbox.local_part, self._default_domain)

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
