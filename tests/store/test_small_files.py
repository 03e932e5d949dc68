"""The small files beside the mail: batch, sidecar, heartbeat, incidents. Torn or foreign ones hurt nobody."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.model.identity import new_entry_id
from mailsrv.store import incidents
from mailsrv.store.batch import Plan, Step, read_batch, write_batch
from mailsrv.store.durable import Move
from mailsrv.store.heartbeat import BEAT_OCTETS, Heart, read_beat
from mailsrv.store.retry import DONE, WAITING, Fate, Retry, read_retry, write_retry
from mailsrv.store.spool import State

ID = new_entry_id(datetime.now(UTC))
PLAN = Plan(
    ID,
    State.DEFERRED,
    3,
    (Step(Move(Path("a/tmp/x"), Path("a/new/x")), ("bob@example.org",)), Step(Move(Path("b"), Path("c")), ("d", "e"))),
    {"alice@example.org": Fate(DONE), "carol@example.org": Fate(WAITING, "452 full")},
)
RETRY = Retry(2, 1234.5, PLAN.fates)


def test_a_batch_that_is_written_is_read_again(tmp_path: Path) -> None:
    write_batch(tmp_path / "batch.json", [PLAN, PLAN])
    assert read_batch(tmp_path / "batch.json") == [PLAN, PLAN]


def test_a_batch_cut_at_any_length_is_not_trusted(tmp_path: Path) -> None:
    write_batch(tmp_path / "batch.json", [PLAN])
    octets = (tmp_path / "batch.json").read_bytes()
    for length in range(len(octets)):
        (tmp_path / "batch.json").write_bytes(octets[:length])
        assert read_batch(tmp_path / "batch.json") is None


def test_a_batch_of_another_boot_is_not_trusted(tmp_path: Path) -> None:
    write_batch(tmp_path / "batch.json", [PLAN])
    document = json.loads((tmp_path / "batch.json").read_text())
    (tmp_path / "batch.json").write_text(json.dumps(document | {"boot": "another"}))
    assert read_batch(tmp_path / "batch.json") is None


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "1", '"x"', '{"boot": 1}', "\0" * 100])
def test_what_is_no_batch_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "batch.json").write_text(text)
    assert read_batch(tmp_path / "batch.json") is None


def test_no_batch_is_none(tmp_path: Path) -> None:
    assert read_batch(tmp_path / "batch.json") is None


def test_a_sidecar_that_is_written_is_read_again(tmp_path: Path) -> None:
    write_retry(tmp_path / "x.retry", RETRY)
    assert read_retry(tmp_path / "x.retry") == RETRY


def test_a_sidecar_cut_at_any_length_is_none(tmp_path: Path) -> None:
    write_retry(tmp_path / "x.retry", RETRY)
    octets = (tmp_path / "x.retry").read_bytes().rstrip()
    for length in range(len(octets)):
        (tmp_path / "x.retry").write_bytes(octets[:length])
        assert read_retry(tmp_path / "x.retry") is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["attempts", "due", "destinations", "state", "error"]), inner, max_size=5)
    ),
    max_leaves=8,
)


@given(_json)
def test_any_json_is_a_sidecar_or_none(tmp_path_factory: pytest.TempPathFactory, document: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.retry"
    path.write_text(json.dumps(document))
    found = read_retry(path)
    assert found is None or isinstance(found, Retry)


def test_a_sidecar_tells_what_is_done() -> None:
    assert RETRY.is_done("alice@example.org")
    assert not RETRY.is_done("carol@example.org")
    assert not RETRY.is_done("nobody")


# --- heartbeat -------------------------------------------------------------------------------------


def test_the_last_beat_is_read(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "x.beat")
    heart.beat(1, {"a": 1}, "x" * 1000)
    heart.beat(2, {"b": ["\ud800"]}, "entry")
    beat = read_beat(tmp_path / "x.beat")
    assert beat is not None
    assert (beat.progress, beat.in_hand, beat.facts) == (2, "entry", {"b": ["\ud800"]})
    assert 0 <= beat.age() < 60
    assert (tmp_path / "x.beat").stat().st_size == BEAT_OCTETS


def test_facts_too_long_for_a_beat_are_left_out(tmp_path: Path) -> None:
    Heart(tmp_path / "x.beat").beat(7, {"a": "x" * BEAT_OCTETS}, "é" * 200)
    beat = read_beat(tmp_path / "x.beat")
    assert beat is not None
    assert (beat.progress, beat.facts) == (7, {})
    assert (tmp_path / "x.beat").stat().st_size == BEAT_OCTETS


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "null", '{"pid": 1}'])
def test_what_is_no_beat_is_none(tmp_path: Path, text: str) -> None:
    assert read_beat(tmp_path / "x.beat") is None
    (tmp_path / "x.beat").write_text(text)
    assert read_beat(tmp_path / "x.beat") is None


# --- incidents -------------------------------------------------------------------------------------


def test_incidents_are_kept_and_read_in_order(tmp_path: Path) -> None:
    first = incidents.keep(tmp_path, "smtp", {"symptom": "spinning"}, "stack \ud800")
    second = incidents.keep(tmp_path, "pop3", {"symptom": "stale"}, "")
    (tmp_path / "20261123T000000.0Z-unfinished").mkdir()
    found = incidents.read_all(tmp_path)
    assert [incident.name for incident in found] == [first.name, second.name]
    assert found[0].report["program"] == "smtp"
    assert found[0].report["symptom"] == "spinning"
    assert found[0].stacks == "stack \\ud800"
