"""What is known of the mailboxes here, as the files say it now: accounts, aliases, lists, transforms."""

from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any

from mailsrv.config import Config
from mailsrv.model.address import Mailbox, ReversePath
from mailsrv.model.international import domain_key
from mailsrv.model.mistake import Mistake
from mailsrv.store.accounts import Account, Accounts, Aliases, parse_accounts, parse_aliases
from mailsrv.store.away import Away, parse_away
from mailsrv.store.kept import Hold, Kept
from mailsrv.store.lists import Lists, parse_lists
from mailsrv.store.quotas import Quota, Quotas, parse_quotas, quota_in
from mailsrv.store.transforms import Transforms, parse_transforms, transformed
from mailsrv.work.route import Note, Route, Tables, Walk, loop_behind


class Directory:
    """Domains, accounts, aliases, lists and transforms; edits of the files take effect at the next question."""

    def __init__(self, config: Config) -> None:
        no_accounts: Accounts = {}
        no_aliases: Aliases = {}
        no_lists: Lists = {}
        no_quotas: Quotas = {}
        self._hold = Hold()
        self._domains = frozenset(map(domain_key, config.domains))
        self._default_domain = config.domains[0]
        self._delimiter = config.routing.detail_delimiter
        self._accounts = Kept(config.accounts, parse_accounts, no_accounts, is_optional=False, hold=self._hold)
        self._aliases = Kept(config.aliases, parse_aliases, no_aliases, is_optional=True, hold=self._hold)
        self._lists = Kept(config.lists, parse_lists, no_lists, is_optional=True, hold=self._hold)
        self._transforms = Kept(config.transforms, parse_transforms, Transforms(), is_optional=True, hold=self._hold)
        self._quotas = Kept(config.quotas, parse_quotas, no_quotas, is_optional=True, hold=self._hold)
        self._quota = Quota(config.quota.octets, config.quota.messages)
        self._away_folder = config.away
        self._away: dict[str, Kept[Away | None]] = {}  # by account
        self._counted: Accounts | None = None  # what is known of these accounts:
        self._is_ready_for_scram = False
        self.mistakes()  # reads all: from now on there is a last good one

    def hold(self) -> None:
        """From now on, for a moment at most, edits take no effect: what is decided together is decided by the same."""
        self._hold.begin()

    def release(self) -> None:
        """Edits take effect at the next question again."""
        self._hold.end()

    def mistakes(self) -> list[Mistake]:
        """What is wrong with the files as they stand; meanwhile the last good ones hold."""
        self.tables()
        self._quotas.current()
        files: tuple[Kept[Any], ...] = (self._accounts, self._aliases, self._lists, self._transforms, self._quotas)
        found = [kept.mistake for kept in (*files, *self._away.values())]
        return [mistake for mistake in found if mistake is not None]

    def tables(self) -> Tables:
        """All of it, at this moment."""
        accounts, aliases = self._accounts.current(), self._aliases.current()
        lists, transforms = self._lists.current(), self._transforms.current()
        files = (self._accounts, self._aliases, self._lists, self._transforms)
        is_whole = all(kept.mistake is None for kept in files)
        return Tables(
            self._domains, self._default_domain, self._delimiter, accounts, aliases, lists, transforms, is_whole
        )

    def quota(self, mailbox: Mailbox) -> Quota:
        """How much may lie in the mailbox of an account."""
        return quota_in(self._quotas.current(), mailbox, self._quota)

    def away(self, mailbox: Mailbox) -> Away | None:
        """What an account has its mail answered with, if it is away."""
        kept = self._away.get(mailbox.key)
        if kept is None:
            kept = Kept[Away | None](
                self._away_folder / mailbox.key, parse_away, None, is_optional=True, hold=self._hold
            )
            self._away[mailbox.key] = kept
        return kept.current()

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
        return account.mailbox.key in self._senders(mailbox)

    def _senders(self, mailbox: Mailbox) -> Iterator[str]:
        """The keys of the accounts that an address stands for."""
        tables, followed = self.tables(), set[str]()
        todo = [transformed(tables.completed(mailbox), tables.transforms.inbound)[0]]
        while todo:
            each = tables.completed(todo.pop())
            if not tables.is_local(each):
                continue
            names = tables.names(each)
            name = next((name for name in names if name.key in tables.aliases or name.key in tables.accounts), None)
            if name is not None and name.key in tables.accounts:
                yield name.key
            elif name is not None or not any(name.key in tables.lists for name in names):
                _, key, targets = ("", name.key, tables.aliases[name.key]) if name else tables.fallback(each)
                todo += targets if key not in followed else ()
                followed.add(key)

    def dangling(self) -> list[tuple[str, str]]:
        """Aliases and lists that lead nowhere, each with what is wrong."""
        tables = self.tables()
        found = []
        for key in (*tables.aliases, *tables.lists):
            local_part, _, domain = key.rpartition("@")
            start = Mailbox(local_part or "somebody", domain)
            route = Walk(tables, None, judges_posting=False).follow(start)
            problems = [route.refusal] if route.refusal is not None else []
            problems += [each.reason for each in route.lost]
            loop = " -> ".join(loop_behind(tables, start))
            found += [(key, f"{problem.text}{': ' if loop else ''}{loop}") for problem in problems[:1]]
        return found

    def loop_with(self, address: Mailbox, targets: tuple[Mailbox, ...]) -> str:
        """The loop that there would be if `address` led to `targets`, by an alias or a list; empty where none."""
        tables = self.tables()
        lists = {key: found for key, found in tables.lists.items() if key != address.key}
        tables = replace(tables, aliases={**tables.aliases, address.key: targets}, lists=lists)
        return " -> ".join(loop_behind(tables, address))

    def is_local(self, mailbox: Mailbox) -> bool:
        """Whether we are the ones to know what becomes of this mailbox."""
        return not mailbox.domain or domain_key(mailbox.domain) in self._domains

    def route(self, forward_path: Mailbox, reverse_path: ReversePath = None, expanded: Container[str] = ()) -> Route:
        """Where mail of this sender leads; the members of lists that are `expanded` already are left out."""
        return Walk(self.tables(), reverse_path, expanded=expanded).follow(forward_path)

    def answer(self, forward_path: Mailbox, reverse_path: ReversePath) -> Route:
        """The same as far as it matters to the client that asks: the members of a list do not."""
        return Walk(self.tables(), reverse_path, expands_lists=False).follow(forward_path)

    def explain(
        self, forward_path: Mailbox, reverse_path: ReversePath, *, judges_posting: bool
    ) -> tuple[Route, list[Note]]:
        """The same, with every rule that was asked; without `judges_posting` as if anybody might send to any list."""
        tables, notes = self.tables(), list[Note]()
        route = Walk(tables, reverse_path, notes, judges_posting=judges_posting).follow(forward_path)
        if route.remote and reverse_path is not None:
            for each in tables.transforms.outbound:
                result = each.apply(reverse_path)
                text = f"{each}: {'does not match' if result is None else f'now {result}'}"
                notes.append(Note(0, str(reverse_path), "transform of the sender", text))
                if result is not None:
                    break
        return route, notes
