"""One instance for all clients; each test finds the mailbox empty."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.client import Client, skip_missing
from tests.clients.messages import UTF8_ADDRESS, Message, make_messages
from tests.clients.pop3.mail import Mailbox, make_mail
from tests.clients.pop3.reader import Reader
from tests.clients.postfix import PROGRAM, Postfix
from tests.system.instance import USER, Instance


@pytest.fixture(scope="session")
def open_place() -> Iterator[Path]:
    """A folder with a short name (unix sockets) that everybody may enter, as a server in front has to."""
    folder = Path(tempfile.mkdtemp(prefix="mailsrv-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def running_instance(open_place: Path) -> Iterator[Instance]:
    """A started instance with an alias that needs SMTPUTF8 and a socket for LMTP; a wrong password costs no time."""
    settings: dict[str, object] = {"listen__lmtp": str(open_place / "lmtp"), "logins__delay": 0}
    instance = Instance.create(open_place / "instance", settings)
    added = instance.mailsrv("alias", "add", UTF8_ADDRESS, USER)
    assert added.returncode == 0, added.stderr
    try:
        instance.up()
        yield instance
    finally:  # also where it did not come up whole
        instance.down()


@pytest.fixture
def instance(running_instance: Instance) -> Instance:
    """The instance, with an empty mailbox."""
    Mailbox(running_instance).empty()  # also of what another program has moved to cur/
    return running_instance


@pytest.fixture(scope="session")
def messages() -> dict[str, Message]:
    """The messages, by name."""
    return make_messages()


@pytest.fixture(scope="session")
def mail() -> dict[str, Message]:
    """The messages to be read, by name."""
    return make_mail()


@pytest.fixture
def mailbox(running_instance: Instance) -> Mailbox:
    """The mailbox of the user, empty, to be filled by hand."""
    mailbox = Mailbox(running_instance)
    mailbox.empty()
    return mailbox


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for what a client needs and what it stores, which may be much."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(autouse=True)
def _client_is_here(request: pytest.FixtureRequest) -> None:
    """Skip the tests of a client that this machine has not."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if isinstance(client := parameters.get("client"), Client | Reader) and client.is_missing():
        skip_missing(client.name, client.package)


@pytest.fixture(scope="session")
def postfix(running_instance: Instance, open_place: Path) -> Iterator[Postfix]:
    """A started Postfix of our own that hands what it gets to the instance."""
    if not PROGRAM.exists():
        skip_missing("Postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix wants to be started by root")
    postfix = Postfix.configure(open_place / "postfix", running_instance, open_place / "lmtp")
    postfix.start()
    yield postfix
    postfix.stop()
