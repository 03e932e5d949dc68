"""What the recipients of an entry come to: destinations, each once, and what is to be told of whom to whom."""

from dataclasses import dataclass, field
from datetime import datetime

from mailsrv.model import trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Recipient, Sender
from mailsrv.model.parameters import value_of
from mailsrv.model.reply import Reply
from mailsrv.model.xtext import original_recipient
from mailsrv.protocol.report import Action, Reported
from mailsrv.store.accounts import Account
from mailsrv.store.lists import DistributionList
from mailsrv.work.attempt import Attempt
from mailsrv.work.reports import News, wants
from mailsrv.work.route import NOWHERE, Route, Way

# Parameters of MAIL that are about the message, and so go on with it when a list sends it on in its owner's name.
_OF_THE_MESSAGE = frozenset({"BODY", "SMTPUTF8", "REQUIRETLS"})


@dataclass(frozen=True, slots=True)
class Goal:
    """A destination: the recipient that led there, the mailbox that it is, and how it was come to."""

    recipient: Recipient
    mailbox: Mailbox
    way: Way
    account: Account | None = None
    is_shared: bool = False  # an alias of several addresses led there

    def tell(self, destination: str, action: Action, reason: Reply, until: datetime | None = None) -> News:
        """What there is to tell of it; behind a list, what the sender has asked for counts no more."""
        recipient = self.recipient if self.way.list is None else Recipient(self.mailbox)
        original = value_of(recipient.parameters, "ORCPT")
        return News(destination, recipient, Reported(self.mailbox, original, action, reason, until))

    def recipient_elsewhere(self) -> Recipient:
        """The parameters follow an alias (RFC 3461 §5.2.7.2, §5.2.7.3), SUCCESS only where it leads to one address."""
        if self.way.list is not None:
            return Recipient(self.mailbox)
        if self.way.by is None:
            return Recipient(self.mailbox, self.recipient.parameters)
        parameters = dict(self.recipient.parameters)
        if self.is_shared and (notify := parameters.get("NOTIFY")):
            kept = [word for word in notify.upper().split(",") if word != "SUCCESS"]
            parameters["NOTIFY"] = ",".join(kept) or "NEVER"
        # RFC 3461 §5.2.1
        parameters.setdefault("ORCPT", original_recipient(str(self.recipient.forward_path)))
        return Recipient(self.mailbox, tuple(parameters.items()))


@dataclass(slots=True)
class Goals:
    """By destination; `waiting` are those that no file could say anything about."""

    local: dict[str, Goal] = field(default_factory=dict)
    remote: dict[str, Goal] = field(default_factory=dict)
    waiting: dict[str, Goal] = field(default_factory=dict)
    news: dict[str, tuple[DistributionList | None, News]] = field(default_factory=dict)

    def add(self, attempt: Attempt, recipient: Recipient, route: Route) -> None:
        """Take in where a recipient leads."""
        shared = route.is_shared
        for key, local in route.local.items():
            goal = Goal(recipient, local.account.mailbox, local.way, local.account, shared)
            self.local.setdefault(key, goal)
        for key, remote in route.remote.items():
            self.remote.setdefault(key, Goal(recipient, remote.mailbox, remote.way, is_shared=shared))
        if route.refusal is not None:
            goal = Goal(recipient, recipient.forward_path, NOWHERE)
            self._refuse(attempt, f"report {recipient.forward_path.key}", goal, route.refusal)
        for lost in route.lost:
            goal = Goal(Recipient(lost.mailbox), lost.mailbox, Way(lost.list.mailbox, lost.list))
            self._refuse(attempt, f"report {lost.list.mailbox.key} {lost.mailbox.key}", goal, lost.reason)
        self._tell_success(recipient, route)

    def fail(self, destination: str, goal: Goal, reason: Reply) -> None:
        """It is not served, and its sender, or the owner of the list, is told."""
        self.news.setdefault(destination, (goal.way.list, goal.tell(destination, Action.FAILED, reason)))
        self.local.pop(destination, None)
        self.remote.pop(destination, None)

    def _refuse(self, attempt: Attempt, destination: str, goal: Goal, reason: Reply) -> None:
        if reason.is_permanent:
            self.fail(destination, goal, reason)
        elif attempt.has_yet_to_serve(destination):
            attempt.wait_because(destination, reason)
            self.waiting[destination] = goal

    def _tell_success(self, recipient: Recipient, route: Route) -> None:
        """RFC 3461 §5.2.7: a list is where the message was to come to; of an alias its expansion is told, once."""
        if not wants(recipient, "SUCCESS") or not route.leads_somewhere:
            return
        path = recipient.forward_path
        original = value_of(recipient.parameters, "ORCPT")
        if route.is_shared:
            news = News(f"expansion {path.key}", recipient, Reported(path, original, Action.EXPANDED))
        elif route.local or route.lists:
            told = Reported(path, original, Action.DELIVERED)
            needs = () if route.lists else tuple(route.local)
            news = News(f"success {path.key}", recipient, told, needs)
        else:
            return
        self.news.setdefault(news.destination, (None, news))


def sender_of(attempt: Attempt, found: DistributionList | None) -> Sender:
    """Who hears of failures: the sender, or the owner of the list (RFC 5321 §3.9.2)."""
    if found is None:
        return attempt.sender
    return Sender(found.owner, tuple(each for each in attempt.sender.parameters if each[0] in _OF_THE_MESSAGE))


def list_id(attempt: Attempt, found: DistributionList | None) -> bytes:
    """RFC 2919 §6: a message has one, and the list that it came by first is the one that a reader knows."""
    if found is None or not found.mailbox.is_ascii or b"\nlist-id:" in attempt.header.lower():
        return b""
    return trace.list_id(found.mailbox)
