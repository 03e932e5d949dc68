"""The architecture, held: import directions, one module for each outside package, sizes."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mailsrv"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Of each layer, the layers that it may import from.
MAY_IMPORT = {
    "model": {"model"},
    "values": {"model"},
    "toml_text": set(),
    "settings": {"values", "model"},
    "settings_relay": {"values", "model"},
    "settings_outgoing": {"values", "model"},
    "config": {"toml_text", "settings", "settings_relay", "settings_outgoing", "values", "model"},
    "protocol": {"protocol", "model"},
    "store": {"store", "model"},
    "host": {"host", "model"},
    "work": {"work", "config", "settings", "settings_relay", "protocol", "store", "host", "model"},
    "daemon": {"daemon", "work", "config", "settings", "settings_relay", "protocol", "store", "host", "model"},
    "cli": {"cli", "work", "config", "toml_text", "settings", "settings_relay", "values", "store", "host", "model"},
}

# Of each outside package, the modules that may import it.
HOMES = {
    "watchdog": {"host/bell.py"},
    "psutil": {"host/processes.py"},
    "supervisor": {"host/supervisor.py"},
    "argon2": {"host/passwords.py"},
    "scramp": {"host/scram.py"},
    "cryptography": {"host/certificates.py", "host/signing.py"},  # X.509 in the one, bare keys in the other
    "uvloop": {"daemon/server.py"},
    "idna": {"model/international.py"},
    "dns": {"host/resolver.py"},
}
ONLY_IN_CLI = {"click", "rich"}
NOT_IN_PROTOCOL = {"socket", "os", "time", "logging", "asyncio", "pathlib", "threading"}
COMMON_IN_DAEMON = {
    f"mailsrv.daemon.{name}" for name in ("service", "server", "sockets", "connection", "logins", "faults")
}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 40


def _name(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def _imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _layer_of(imported: str) -> str | None:
    parts = imported.split(".")
    return parts[1] if parts[0] == "mailsrv" and len(parts) > 1 and parts[1] in MAY_IMPORT else None


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_imports_go_down_only(module: Path) -> None:
    layer = _name(module).split("/", maxsplit=1)[0].removesuffix(".py")
    if layer == "__init__":
        return
    wrong = {each for each in _imports(module) if (found := _layer_of(each)) and found not in MAY_IMPORT[layer]}
    assert wrong == set()


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_an_outside_package_is_imported_in_its_own_module_only(module: Path) -> None:
    for imported in _imports(module):
        package = imported.partition(".")[0]
        if package in HOMES:
            assert _name(module) in HOMES[package], imported
        if package in ONLY_IN_CLI:
            assert _name(module).startswith("cli/"), imported
        known = {"mailsrv", *HOMES, *ONLY_IN_CLI}
        assert package in known or package in sys.stdlib_module_names, imported


@pytest.mark.parametrize("module", sorted((PACKAGE / "protocol").glob("*.py")), ids=_name)
def test_the_protocol_layer_does_no_input_or_output_and_knows_no_clock(module: Path) -> None:
    assert {each.partition(".")[0] for each in _imports(module)} & NOT_IN_PROTOCOL == set()


@pytest.mark.parametrize("module", sorted((PACKAGE / "daemon").glob("*d.py")), ids=_name)
def test_no_daemon_imports_another(module: Path) -> None:
    modules = {".".join(each.split(".")[:3]) for each in _imports(module) if each.startswith("mailsrv.daemon.")}
    assert modules - COMMON_IN_DAEMON == set()


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_nothing_but_the_durable_module_syncs_or_renames_mail(module: Path) -> None:
    text = module.read_text()
    assert "fsync(" not in text or _name(module) == "store/durable.py"
    assert ".rename(" not in text or _name(module) in {"store/durable.py", "store/spool.py"}  # a claim is a rename


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_modules_and_functions_are_short(module: Path) -> None:
    text = module.read_text()
    assert text.count("\n") <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_every_module_and_public_name_says_what_it_is(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
