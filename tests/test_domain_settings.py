"""The domains of the settings: of any script; the name that is said to every client: in ASCII."""

from pathlib import Path

import pytest

from mailsrv.config import Config, load, render
from mailsrv.model.mistake import Mistake
from mailsrv.values import is_nameserver


def test_domains_may_be_of_any_script(tmp_path: Path) -> None:
    config = Config(tmp_path, domains=("bücher.example", "xn--r8jz45g.jp"))
    config.path.write_text(render(config), "utf-8")
    assert load(tmp_path) == config


@pytest.mark.parametrize(
    "setting", ['hostname = "mail.bücher.example"', 'domains = ["☃.example"]', 'domains = ["ö。"]']
)
def test_a_name_that_cannot_be_used_is_told(tmp_path: Path, setting: str) -> None:
    Config(tmp_path).path.write_text(setting, "utf-8")
    with pytest.raises(Mistake) as caught:
        load(tmp_path)
    assert caught.value.line == 1


@pytest.mark.parametrize("text", ["192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:5353", "::1"])
def test_a_nameserver_is_an_address_perhaps_with_a_port(text: str) -> None:
    assert is_nameserver(text)


@pytest.mark.parametrize("text", ["ns.example.org", "192.0.2.53:0", "192.0.2.53:x", "", 53])
def test_a_nameserver_is_nothing_else(text: object) -> None:
    assert not is_nameserver(text)
