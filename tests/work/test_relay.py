"""The relay against servers over real sockets: what is taken, refused, kept, reported, and noted in the books."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailsrv.config import Config
from mailsrv.model import outcome, reply
from mailsrv.model.identity import EntryId
from mailsrv.model.reply import Reply
from mailsrv.store import incidents
from mailsrv.store.batch import Plan, write_batch
from mailsrv.store.journal import Journal
from mailsrv.store.ledger import Reader
from mailsrv.store.retry import DONE, Fate, read_retry
from mailsrv.store.spool import Spool, State
from mailsrv.work import books, desk
from mailsrv.work.audit import Audit
from mailsrv.work.dialing import Dialer, Place
from mailsrv.work.hand import SYMPTOM
from mailsrv.work.line import Line, Watch
from mailsrv.work.operating import NotPossibleError, Operator
from mailsrv.work.routes import Route
from tests import killing
from tests.system.instance import wait_until
from tests.work.instance import CONTENT, accept, config_of, deliver, letters, make, names_in, unfinished
from tests.work.relaying import LIMITS, Server, relaying, send_on, sender_of, serving, settle

FULL = Reply(452, "2.2", "mailbox full")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return replace(make(tmp_path), run_as="root")  # as whoever runs the test


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def entry_for(config: Config, *recipients: str, sender: str = "alice@example.org", block: bytes = b"") -> EntryId:
    """An entry in `remote/`, put there by delivery."""
    before = set(Spool(config.spool).entries(State.REMOTE))
    accept(config, *recipients, sender=sender, block=block)
    deliver(config)
    (made,) = set(Spool(config.spool).entries(State.REMOTE)) - before
    return made


def remote(config: Config) -> list[str]:
    return names_in(Spool(config.spool).folder(State.REMOTE))


def lines_of(config: Config, fate: str) -> list[dict[str, object]]:
    return [each for each in Reader(config.books).read() if each["fate"] == fate]


def assert_all_is_told(config: Config) -> None:
    audited = Audit(config).run()
    assert audited.is_balanced, (audited.missing, audited.doubled)
    assert [each for each in unfinished(config) if not each.startswith("spool/tmp/relay")] == []


def test_a_message_is_relayed_octet_for_octet_and_the_books_say_where(config: Config, server: Server) -> None:
    entry_for(config, "dave@example.net", "erin@example.com")
    send_on(relaying(config, server))
    assert server.taken == [("alice@example.org", ["dave", "erin"], CONTENT)]
    assert remote(config) == []
    (told,) = lines_of(config, "relayed")
    assert told["to"] == ["dave@example.net", "erin@example.com"]
    assert str(told["how"]).startswith("127.0.0.1[127.0.0.1]: 250 2.0.0 ")
    assert_all_is_told(config)


def test_what_is_refused_for_good_is_reported_and_the_others_get_it(config: Config) -> None:
    entry_for(config, "dave@example.net", "ghost@example.net")
    with serving(refusals={"ghost": reply.NO_SUCH_MAILBOX}) as server:
        send_on(relaying(config, server))
        assert [to for _, to, _ in server.taken] == [["dave"]]
    assert remote(config) == []
    (report,) = letters(config, "alice")
    assert b"ghost@example.net\nAction: failed" in report
    assert b"Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such mailbox here" in report
    assert b"dave@example.net" not in report.partition(b"text/rfc822-headers")[0]
    assert_all_is_told(config)


def test_what_is_refused_for_now_waits_and_who_was_served_is_not_served_again(config: Config) -> None:
    entry_id = entry_for(config, "dave@example.net", "erin@example.net")
    with serving(refusals={"erin": FULL}) as server:
        send_on(relaying(config, server))
        assert remote(config) == [entry_id, f"{entry_id}.retry"]
        retry = read_retry(Spool(config.spool).retry_path(entry_id, State.REMOTE))
        assert retry is not None
        assert retry.attempts == 1
        assert retry.destinations["erin@example.net"].error == "452 4.2.2 mailbox full (127.0.0.1[127.0.0.1])"
        assert retry.is_done("dave@example.net")
        server.refusals.clear()
        send_on(relaying(config, server))
        assert [to for _, to, _ in server.taken] == [["dave"], ["erin"]]
    assert remote(config) == []
    assert_all_is_told(config)


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "BDAT", "END"])
@pytest.mark.parametrize("hidden", [(), (b"PIPELINING",)], ids=["pipelined", "one by one"])
def test_a_server_that_hangs_up_at_any_step_makes_the_message_wait(
    config: Config, verb: str, hidden: tuple[bytes, ...]
) -> None:
    entry_id = entry_for(config, "dave@example.net")
    with serving(hangs_up_at=verb, hidden=hidden) as server:
        send_on(relaying(config, server))
        retry = read_retry(Spool(config.spool).retry_path(entry_id, State.REMOTE))
        assert retry is not None
        error = retry.destinations["dave@example.net"].reply()
        assert error == (outcome.IN_DOUBT if verb in ("BDAT", "END") else outcome.CONNECTION_LOST)
        server.hangs_up_at = ""
        send_on(relaying(config, server))
        assert [to for _, to, _ in server.taken] == [["dave"]]
    assert remote(config) == []
    assert letters(config, "alice") == []
    assert_all_is_told(config)


def test_a_refusal_behind_the_final_dot_is_final(config: Config) -> None:
    entry_for(config, "dave@example.net")
    with serving(ending=Reply(554, "7.1", "spam")) as server:
        send_on(relaying(config, server))
    assert b"Diagnostic-Code: smtp; 554 5.7.1 spam" in letters(config, "alice")[0]
    assert remote(config) == []
    assert_all_is_told(config)


def test_what_waits_for_too_long_is_returned(config: Config) -> None:
    late = replace(config, delivery=replace(config.delivery, give_up_after=0.01))
    entry_for(late, "dave@example.net")
    with serving(refusals={"dave": FULL}) as server:
        for _ in range(3):
            send_on(relaying(late, server))
    assert remote(config) == []
    assert b"550 5.4.7 could not be delivered in time" in letters(config, "alice")[0]
    assert_all_is_told(config)


def test_a_host_without_dsn_is_reported_on_by_us(config: Config) -> None:
    block = b"X-Sender: <alice@example.org>\r\nX-Receiver: <dave@example.net> NOTIFY=SUCCESS\r\n"
    entry_for(config, block=block)
    with serving(hidden=(b"DSN",)) as server:
        send_on(relaying(config, server))
    (report,) = letters(config, "alice")
    assert b"Action: relayed\nStatus: 2.1.9" in report
    assert_all_is_told(config)


def test_a_report_that_cannot_be_relayed_goes_to_postmaster(config: Config) -> None:
    config.aliases.write_text("postmaster@example.org: bob@example.org\n")
    entry_for(config, "dave@example.net", sender="")
    with serving(refusals={"dave": reply.NO_SUCH_MAILBOX}) as server:
        send_on(relaying(config, server))
    assert len(letters(config, "bob")) == 1
    assert_all_is_told(config)


def test_more_recipients_than_a_host_takes_at_once_go_in_several_transactions(config: Config, server: Server) -> None:
    names = [f"u{number}" for number in range(250)]
    entry_for(config, *(f"{name}@example.net" for name in names))
    send_on(relaying(config, server))
    assert [name for _, to, _ in server.taken for name in to] == names
    assert server.connections == 1
    assert_all_is_told(config)


def test_connections_are_used_again(config: Config, server: Server) -> None:
    for number in range(20):
        entry_for(config, f"u{number}@example.net")
    send_on(relaying(config, server, max_connections_per_destination=1))
    assert len(server.taken) == 20
    assert server.connections == 1
    assert_all_is_told(config)


def test_a_dead_host_costs_one_attempt_and_not_one_a_message(
    config: Config, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    real = Dialer.open

    def counted(dialer: Dialer, route: Route, watch: Watch, tried: set[Place]) -> Line:
        opened.append(route)
        return real(dialer, route, watch, tried)

    monkeypatch.setattr(Dialer, "open", counted)
    for number in range(20):
        entry_for(config, f"u{number}@example.net")
    server.close()
    sender = sender_of(relaying(config, server))
    settle(sender)
    assert len(opened) == 1
    assert len(remote(config)) == 40  # each with its sidecar
    assert "cannot be used" in sender.problems()[0]
    sender.stop()
    assert_all_is_told(config)


def test_the_next_smarthost_is_used_where_the_first_cannot_be_reached(config: Config, server: Server) -> None:
    with serving() as dead:
        dead.close()
        entry_for(config, "dave@example.net")
        send_on(relaying(config, dead, server))
    assert len(server.taken) == 1
    assert_all_is_told(config)


def test_mail_for_a_domain_of_ours_is_never_sent_elsewhere(config: Config, server: Server) -> None:
    entry_for(config, "dave@example.net")
    sender = sender_of(relaying(config, server))
    sender._ours_domains = frozenset({"example.net"})
    settle(sender)
    sender.stop()
    assert server.connections == 0
    assert len(remote(config)) == 2


def test_without_a_route_everything_waits_as_it_is(config: Config) -> None:
    entry_id = entry_for(config, "dave@example.net")
    send_on(config)
    assert remote(config) == [entry_id]


def test_what_was_heard_before_a_kill_is_not_sent_again(config: Config, server: Server) -> None:
    entry_id = entry_for(config, "dave@example.net", "erin@example.net")
    spool = Spool(config.spool, "relay")
    spool.create_folders()
    spool.journal.write_text(
        f'{{"begin": "{entry_id}"}}\n'
        f'{{"sent": "{entry_id}", "to": ["dave@example.net", "erin@example.net"]}}\n'
        f'{{"told": "{entry_id}", "to": {{"dave@example.net": {{"where": "mx", "reports": true, "reply":'
        ' {"code": 250, "subject": "0.0", "text": "ok"}}}}\n{"torn'
    )
    send_on(relaying(config, server))
    assert [to for _, to, _ in server.taken] == [["erin"]]
    assert {name for each in lines_of(config, "relayed") for name in each["to"]} == {  # type: ignore[attr-defined]
        "dave@example.net",
        "erin@example.net",
    }
    (doubt,) = [each for each in lines_of(config, "deferred") if each.get("in_doubt")]
    assert doubt["to"] == ["erin@example.net"]
    assert spool.journal.read_bytes() == b""
    assert_all_is_told(config)


def test_a_batch_that_was_interrupted_makes_nobody_forget_what_was_heard_of_other_messages(
    config: Config, server: Server
) -> None:
    finished, dotted = entry_for(config, "dave@example.net"), entry_for(config, "erin@example.net")
    spool = Spool(config.spool, "relay")
    spool.create_folders()
    write_batch(spool.batch, [Plan(finished, State.REMOTE, 0, (), {"dave@example.net": Fate(DONE, "mx: 250 ok")})])
    lines = [{"begin": finished}, {"begin": dotted}, {"sent": dotted, "to": ["erin@example.net"]}]
    spool.journal.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    send_on(relaying(config, server))
    assert [to for _, to, _ in server.taken] == [["erin"]]
    (doubt,) = [each for each in lines_of(config, "deferred") if each.get("in_doubt")]
    assert doubt["to"] == ["erin@example.net"]
    assert remote(config) == []
    assert spool.journal.read_bytes() == b""


def test_a_sidecar_that_cannot_be_read_keeps_back_its_own_entry_only_and_not_for_good(
    config: Config, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "FAULT_PAUSE", 0.0)
    first, _ = (entry_for(config, f"{name}@example.net") for name in ("dave", "erin"))
    sidecar = Spool(config.spool).retry_path(first, State.REMOTE)
    sidecar.mkdir()  # a fault that also root meets
    sender = sender_of(relaying(config, server))
    wait_until(lambda: sender.turn() or remote(config) == [first, sidecar.name], "the other one goes")  # type: ignore[func-returns-value]
    sidecar.rmdir()
    settle(sender)
    sender.stop()
    assert sorted(to for _, to, _ in server.taken) == [["dave"], ["erin"]]
    assert remote(config) == []
    assert_all_is_told(config)


def test_what_a_host_has_taken_is_not_sent_again_where_the_journal_cannot_be_written(
    config: Config, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("dave", "erin"):
        entry_for(config, f"{name}@example.net")
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "told", fail)
        patched.setattr(Journal, "over", fail)
        send_on(relaying(config, server))
    send_on(relaying(config, server))
    assert sorted(to for _, to, _ in server.taken) == [["dave"], ["erin"]]
    assert remote(config) == []
    assert_all_is_told(config)


def test_an_operator_holds_releases_and_retries_what_waits_for_the_relay(config: Config, server: Server) -> None:
    entry_id = entry_for(config, "dave@example.net", "erin@example.net")
    server.refusals["erin"] = FULL
    send_on(relaying(config, server))
    Operator(config).hold(entry_id, "to be looked at")
    assert remote(config) == []
    assert Operator(config).release(entry_id) == "remote/"
    assert names_in(Spool(config.spool).folder(State.HOLD)) == []
    Operator(config).retry(entry_id)
    server.refusals.clear()
    send_on(relaying(config, server))
    assert [to for _, to, _ in server.taken] == [["dave"], ["erin"]]
    assert_all_is_told(config)


def test_what_is_being_sent_is_not_moved(config: Config) -> None:
    entry_id = entry_for(config, "dave@example.net")
    silent = socket.create_server(("127.0.0.1", 0))
    relayed = relaying(config, smarthosts=(f"127.0.0.1:{silent.getsockname()[1]}",))
    sender = sender_of(relayed)
    wait_until(lambda: sender.turn() or sender.in_hand, "it is in hand")  # type: ignore[func-returns-value]
    with pytest.raises(NotPossibleError, match="is being sent"):
        Operator(config).remove(entry_id)
    silent.close()
    settle(sender)
    sender.stop()
    Operator(config).remove(entry_id)
    assert remote(config) == []
    assert sorted(os.listdir(Spool(config.spool, "relay").drafts)) == [".batch.json.tmp", "journal"]


def test_recipients_that_were_too_many_go_in_the_next_transaction(config: Config) -> None:
    """The host says nothing of its limit, and has one."""
    names = [f"u{number}" for number in range(8)]
    entry_for(config, *(f"{name}@example.net" for name in names))
    hidden = (b"LIMITS MAILMAX=1000 RCPTMAX=3",)
    with serving(hidden=hidden, limits=replace(LIMITS, max_recipients=3)) as server:
        send_on(relaying(config, server))
        assert [to for _, to, _ in server.taken] == [names[:3], names[3:6], names[6:]]
        assert server.connections == 1
    assert remote(config) == []
    assert_all_is_told(config)


def test_a_message_that_kills_the_relay_twice_is_held_and_whoever_got_it_gets_it_once(
    config: Config, server: Server
) -> None:
    """It dies behind the final dot, where it decides what becomes of the entry."""
    entry_id = entry_for(config, "dave@example.net", "erin@example.net")
    server.refusals["erin"] = FULL
    relayed = relaying(config, server)

    def send_and_die() -> None:
        books.about = lambda _octets: os._exit(killing.KILLED)  # type: ignore[assignment]
        send_on(relayed)

    assert killing.dies_before(-2, send_and_die)
    assert killing.dies_before(-2, send_and_die)
    send_on(relayed)
    spool = Spool(config.spool)
    assert spool.entries(State.HOLD) == [entry_id]
    assert spool.reason(entry_id).startswith(SYMPTOM)
    (incident,) = incidents.read_all(config.incidents)
    assert (incident.report["program"], incident.report["entry"]) == ("relay", entry_id)
    entry_for(config, "zoe@example.net")
    send_on(relayed)  # the rest flows
    server.refusals.clear()
    assert Operator(config).release(entry_id) == "remote/"
    send_on(relayed)
    assert sorted(to for _, to, _ in server.taken) == [["dave"], ["erin"], ["zoe"]]
    assert remote(config) == []
    assert_all_is_told(config)


@pytest.mark.timeout(300)
def test_a_relay_that_is_killed_at_any_step_sends_twice_only_what_the_books_say_may_come_twice(
    tmp_path: Path, server: Server
) -> None:
    server.refusals["ghost"] = reply.NO_SUCH_MAILBOX

    def prepare(place: Path) -> None:
        server.taken.clear()
        entry_for(replace(make(place), run_as="root"), "dave@example.net", "erin@example.net", "ghost@example.net")

    def work(place: Path) -> None:
        send_on(relaying(replace(config_of(place), run_as="root"), server))

    places = []
    for place in killing.deaths(tmp_path, prepare, work, every=3):
        places.append(place)
        config = replace(config_of(place), run_as="root")
        work(place)
        in_doubt = any(each.get("in_doubt") for each in lines_of(config, "deferred"))
        assert [to for _, to, _ in server.taken] in ([["dave", "erin"]], [["dave", "erin"]] * (1 + in_doubt))
        assert remote(config) == []
        assert len(letters(config, "alice")) == 1  # told of ghost, once
        assert_all_is_told(config)
    assert len(places) > 10


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (b"Bcc: erin@example.net\r\nSubject: x", b"Subject: x"),
        (b"Subject: x\r\nBCC: erin@example.net,\r\n\tfrank@example.net\r\nTo: dave", b"Subject: x\r\nTo: dave"),
        (b"Subject: x\r\nResent-Bcc : \r\nbcc:erin", b"Subject: x"),
        (b"Subject: about\r\n bcc: erin\r\nX-Bcc: 1", b"Subject: about\r\n bcc: erin\r\nX-Bcc: 1"),
    ],
)
def test_bcc_never_leaves(config: Config, server: Server, header: bytes, left: bytes) -> None:
    """However it is written, and nothing else is touched. What comes from elsewhere is not ours to change."""
    body = b"\r\n\r\nBcc: this is text\r\n"
    block = b"X-Sender: <alice@example.org>\r\nX-Receiver: <dave@example.net>\r\nX-EndOfInjectedXHeaders: 0\r\n"
    accept(config, content=b"Received: from a test\r\n" + header + body, block=block)
    accept(config, "erin@example.net", content=b"Received: from a test\r\n" + header + body)
    deliver(config)
    send_on(relaying(config, server))
    sent = {to[0]: content for _, to, content in server.taken}
    assert sent["dave"] == b"Received: from a test\r\n" + left + body
    assert sent["erin"] == b"Received: from a test\r\n" + header + body
    assert_all_is_told(config)


def test_a_report_that_is_relayed_keeps_the_null_reverse_path(config: Config, server: Server) -> None:
    entry_for(config, "dave@example.net", sender="")
    send_on(relaying(config, server))
    assert [(sender, to) for sender, to, _ in server.taken] == [("", ["dave"])]
    assert_all_is_told(config)
