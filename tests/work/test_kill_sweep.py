"""Delivery killed at random and at chosen points, under load: nothing lost, nothing doubled, and the books balance."""

from pathlib import Path

import pytest

from tests.sweeping import sweep


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_sweep_of_kills_loses_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    swept = sweep(tmp_path, 8, seed, kills_at_least=20, messages_at_least=50)
    assert swept.wrong == {}
    assert swept.left == []
    assert (swept.audited.missing, swept.audited.doubled) == ((), ())
    assert swept.kills >= 20
    assert swept.messages >= 50
