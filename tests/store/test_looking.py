"""What is new in a folder is told from its names alone, however they are in order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.store import looking
from mailsrv.store.looking import Look

NAMES = st.lists(st.text("ab,:.\u00e9", min_size=1, max_size=4), unique=True, max_size=30)


def listed(names: list[str]) -> str:
    return "".join(f"{name}/" for name in names)


def told(now: list[str], before: list[str]) -> tuple[set[str], set[str]]:
    come, gone = Look({"new": listed(now)}, is_certain=True).since({"new": listed(before), "cur": "other/"})
    assert (len(set(come)), len(set(gone))) == (len(come), len(gone))
    return set(come), set(gone)


def visible(names: set[str]) -> set[str]:
    return {f"{name}/new" for name in names if not name.startswith(".")}


@pytest.mark.parametrize("most_steps", [0, 3, 100])
@given(NAMES, NAMES)
def test_what_has_come_and_gone_is_told_in_any_order(most_steps: int, now: list[str], before: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(looking, "_MOST_STEPS", most_steps)
        assert told(now, before) == (visible(set(now) - set(before)), visible(set(before) - set(now)))


@pytest.mark.parametrize("seed", range(20))
def test_a_few_among_many_are_told(seed: int) -> None:
    chance = random.Random(seed)
    before = [f"{number}.M{number}P7.host,S=1,W=2" for number in range(5000)]
    now = [name for name in before if chance.random() > 0.001]
    for number in range(chance.randrange(300)):
        now.insert(chance.randrange(len(now)), f"x{number}")
    assert told(now, before) == (visible(set(now) - set(before)), visible(set(before) - set(now)))
