"""A real instance for each test that asks: real supervisord, real programs, free ports, gone afterwards."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.instance import Instance


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name (unix sockets) that only its owner may enter, as a user's home may be."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make_instance(place: Path) -> Iterator[Callable[..., Instance]]:
    """Makes a started instance; keyword arguments change settings, as `smtp__drain_seconds=1`."""
    made: list[Instance] = []

    def make(**settings: object) -> Instance:
        instance = Instance.create(place / f"i{len(made)}", settings)
        made.append(instance)
        instance.up()
        return instance

    yield make
    for instance in made:
        instance.down()


@pytest.fixture
def instance(make_instance: Callable[..., Instance]) -> Instance:
    """A started instance with the default settings."""
    return make_instance()
