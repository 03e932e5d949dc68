"""Deciding an entry for delivery: who gets it, by which files, written but not yet visible.

A fault of ours with one destination makes that destination wait; the others go on.
"""

from collections.abc import Callable, Container

from mailsrv.config import Config
from mailsrv.model import reply, trace
from mailsrv.model.address import Mailbox
from mailsrv.model.envelope import Envelope
from mailsrv.model.transform import Transform
from mailsrv.store.batch import Step
from mailsrv.store.durable import Move
from mailsrv.store.spool import Spool, State
from mailsrv.work import loops
from mailsrv.work.attempt import Attempt, letters
from mailsrv.work.boxes import Boxes
from mailsrv.work.goals import Goal, Goals, list_id, sender_of
from mailsrv.work.octets import no_tick
from mailsrv.work.outbound import outside_header, outside_sender
from mailsrv.work.planning import Planning
from mailsrv.work.reports import write_copy
from mailsrv.work.route import Route
from mailsrv.work.routing import Directory


class Planner(Planning):
    """Decides entries by the configuration and the directory as they stand."""

    def __init__(self, config: Config, spool: Spool, directory: Directory, tick: Callable[[], None] = no_tick) -> None:
        super().__init__(config, spool, tick)
        self._directory = directory
        self._boxes = Boxes(config, spool, directory)

    def settle(self, unserved: Container[str]) -> None:
        """A batch of plans is carried out, but for these destinations."""
        self._boxes.settle(unserved)
        self._directory.release()

    def _begin(self) -> None:
        self._directory.hold()  # until the batch is settled

    def _spoil(self) -> None:
        self._boxes.spoil()

    def _decide(self, attempt: Attempt) -> None:
        goals = self._goals(attempt)
        _break_loops(attempt, goals)
        self._boxes.plan(attempt, goals)
        self._plan_remote(attempt, goals)
        self._plan_news(attempt, goals)

    def _goals(self, attempt: Attempt) -> Goals:
        """Each list is expanded once, however many recipients lead to it: a thousand aliases of one are as one."""
        goals, expanded = Goals(), dict[str, str]()
        for recipient in attempt.recipients:
            route = self._directory.route(recipient.forward_path, attempt.sender.reverse_path, expanded)
            _note_route(attempt, recipient.forward_path, route, expanded)
            goals.add(attempt, recipient, route)
        return goals

    # --- copies ------------------------------------------------------------------------------------

    def _plan_remote(self, attempt: Attempt, goals: Goals) -> None:
        """An entry for those that the message is for, and one for each alias and list that sends it on."""
        groups: dict[str, dict[str, Goal]] = {}
        for key, goal in goals.remote.items():
            if attempt.has_yet_to_serve(key):
                by = f"{goal.way.by.key} {goal.way.list.mailbox.key if goal.way.list else ''}" if goal.way.by else ""
                groups.setdefault(by, {})[key] = goal
        transforms = self._directory.tables().transforms.outbound if groups else ()
        for by, group in groups.items():
            way = next(iter(group.values())).way
            # RFC 9228 §4: who is behind an alias does not see by which other one somebody else got it.
            head = trace.delivered_to(way.by) if way.by else b""
            head += list_id(attempt, way.list)
            head += _outside_header(attempt, transforms)
            recipients = tuple(goal.recipient_elsewhere() for goal in group.values())
            envelope = Envelope(outside_sender(sender_of(attempt, way.list), transforms), recipients)
            self._plan_copy(attempt, "remote" + letters(by), tuple(group), envelope, head)

    def _plan_copy(self, attempt: Attempt, word: str, keys: tuple[str, ...], envelope: Envelope, header: bytes) -> None:
        entry_id = attempt.derived_id(word)
        draft = self._spool.draft(entry_id)
        step = Step(Move(draft.path, self._spool.path(State.REMOTE, entry_id)), keys)
        attempt.plan_draft(draft, lambda draft: write_copy(draft, attempt, envelope, header), step)


def _outside_header(attempt: Attempt, transforms: tuple[Transform, ...]) -> bytes:
    if not attempt.has_whole_header:
        return attempt.header
    return outside_header(attempt.header, transforms, is_ours=attempt.arrival.is_ours)


def _break_loops(attempt: Attempt, goals: Goals) -> None:
    """Refuse what goes in circles."""
    if loops.has_too_many_hops(attempt.header):
        for key, goal in [*goals.local.items(), *goals.remote.items()]:
            goals.fail(key, goal, reply.TOO_MANY_HOPS)
    elif seen := loops.delivered_to(attempt.header):
        for key, goal in [*goals.local.items(), *goals.remote.items()]:
            own = {goal.mailbox.key} if goal.account else set()
            if seen & (own | ({goal.way.by.key} if goal.way.by else set())):
                goals.fail(key, goal, reply.DELIVERED_BEFORE)


def _note_route(attempt: Attempt, forward_path: Mailbox, route: Route, expanded: dict[str, str]) -> None:
    """For the books: to which destinations a recipient leads, unless it is the only one itself.

    Of a list that a recipient before has led to, one destination stands for all: `expanded` has them, by list.
    """
    keys = [*route.local, *route.remote]
    if route.refusal is not None:
        keys.append(f"report {forward_path.key}")
    keys += [f"report {lost.list.mailbox.key} {lost.mailbox.key}" for lost in route.lost]
    lists = [each.mailbox.key for each in route.lists]
    keys += [expanded[each] for each in lists if each in expanded]
    expanded |= {each: keys[0] for each in lists if keys and each not in expanded}
    if keys != [str(forward_path)] or attempt.retry.attempts:  # another attempt may have come to something else
        attempt.about.setdefault("routes", {})[str(forward_path)] = keys
