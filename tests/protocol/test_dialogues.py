"""Every golden dialogue, played three ways."""

import re
from pathlib import Path

import pytest

from mailsrv.model.language import Language
from mailsrv.model.reply import Reply
from mailsrv.protocol import pop3_commands, pop3_events, pop3_texts, smtp_commands
from tests.protocol.client_world import ClientWorld
from tests.protocol.dialogue import FOLDER, Cut, World, glued, octet_by_octet, play, read, whole
from tests.protocol.worlds import REPLIES, Pop3World, SmtpWorld

FILES = sorted(FOLDER.glob("*/**/*.txt"))


def protocol_of(path: Path) -> str:
    return path.relative_to(FOLDER).parts[0]


def name_of(path: Path) -> str:
    return "-".join(path.relative_to(FOLDER).with_suffix("").parts)


SMTP_TEXT = "".join(path.read_text(encoding="utf-8") for path in FILES if protocol_of(path) == "smtp")
POP3_TEXT = "".join(path.read_text(encoding="utf-8") for path in FILES if protocol_of(path) == "pop3")

# What a session never says: for the spool's reasons, or for the daemons' own.
NOT_SAID = {"EXPIRED", "DELIVERED_BEFORE", "ALIAS_LOOP"}
# What is said with a text of its own each time.
OTHER_TEXT = {"GREETING", "HELLO", "HELP", "SYNTAX", "CHALLENGE"}


def world_of(path: Path, settings: list[tuple[str, str]], cut: Cut) -> World:
    """The session that the upper folder of the file names."""
    if protocol_of(path) == "smtp":
        return SmtpWorld(settings)
    if protocol_of(path) == "smtp_client":
        return ClientWorld(settings)
    return Pop3World(settings, piece=1 if cut is octet_by_octet else 1 << 16)


@pytest.mark.parametrize("path", FILES, ids=name_of)
@pytest.mark.parametrize("cut", [whole, octet_by_octet, glued], ids=lambda cut: cut.__name__)
def test_a_dialogue_goes_as_written(path: Path, cut: Cut) -> None:
    dialogue = read(path, is_client=protocol_of(path) == "smtp_client")
    play(dialogue, world_of(path, dialogue.settings, cut), cut)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_dialogue_begins_by_saying_what_it_shows_and_which_section_asks_for_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert "RFC " in first
    assert "§" in first or " s." in first


@pytest.mark.parametrize("verb", smtp_commands.Verb, ids=lambda verb: verb.name)
def test_every_smtp_command_stands_in_a_dialogue(verb: smtp_commands.Verb) -> None:
    assert f"\nC: {verb.name}" in SMTP_TEXT


@pytest.mark.parametrize("verb", pop3_commands.Verb, ids=lambda verb: verb.name)
def test_every_pop3_command_stands_in_a_dialogue(verb: pop3_commands.Verb) -> None:
    assert f"\nC: {verb.name}" in POP3_TEXT


@pytest.mark.parametrize("name", sorted(REPLIES.keys() - NOT_SAID))
def test_every_smtp_reply_stands_in_a_dialogue(name: str) -> None:
    answer: Reply = REPLIES[name]
    if name in OTHER_TEXT:
        assert re.search(rf"\nS: {answer.code}[ -]{answer.status if answer.subject else ''}", SMTP_TEXT)
    else:
        assert f"\nS: {answer}\n" in SMTP_TEXT


@pytest.mark.parametrize("refusal", pop3_events.Refusal, ids=lambda refusal: refusal.name)
def test_every_pop3_refusal_stands_in_a_dialogue(refusal: pop3_events.Refusal) -> None:
    assert f"\nS: -ERR {refusal.said_in(Language.DEFAULT)}\n" in POP3_TEXT


POP3_TEXTS = {name: value for name, value in vars(pop3_texts).items() if isinstance(value, pop3_texts.Text)}


@pytest.mark.parametrize("name", sorted(POP3_TEXTS))
def test_every_pop3_text_stands_in_a_dialogue_in_english(name: str) -> None:
    text = re.escape(POP3_TEXTS[name].en).replace(r"\{\}", ".+")
    assert re.search(rf"\nS: .*{text}\n", POP3_TEXT)
