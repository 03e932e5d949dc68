"""Documents are checked, not trusted."""

import dataclasses
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from mailsrv import config
from mailsrv.cli.main import main
from mailsrv.host import supervisord_conf, systemd_unit
from mailsrv.store.spool import State
from mailsrv.work import symptoms

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGES.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_mailsrv_toml_in_the_repository_is_the_default_configuration() -> None:
    assert (ROOT / "mailsrv.toml").read_text() == config.render(config.Config(ROOT))
    assert config.load(ROOT) == config.Config(ROOT)


def test_supervisord_conf_in_the_repository_is_what_is_written_for_it() -> None:
    expected = supervisord_conf.render(lambda program: f'"%(here)s/bin/mailsrv-{program}"')
    assert (ROOT / "supervisord.conf").read_text() == expected


def test_the_unit_in_contrib_is_what_init_writes_for_an_instance_in_srv() -> None:
    expected = systemd_unit.render(Path("/srv/mailsrv"), "/srv/mailsrv/.venv/bin/python", "mailsrv", "mailsrv")
    assert (ROOT / "contrib" / systemd_unit.FILE_NAME).read_text() == expected


def test_every_program_has_a_launcher_that_execs_its_module() -> None:
    for program in (*supervisord_conf.PROGRAMS.values(), supervisord_conf.LISTENER[1]):
        launcher = ROOT / "bin" / f"mailsrv-{program}"
        assert launcher.stat().st_mode & 0o111
        assert re.search(rf'^exec .* -m mailsrv\.daemon\.{program} "\$@"$', launcher.read_text(), re.M)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_processes_md_names_every_program_and_every_layer() -> None:
    text = (ROOT / "docs" / "PROCESSES.md").read_text()
    for name, program in {**supervisord_conf.PROGRAMS, "health": "healthd"}.items():
        assert f"| `{name}` | `mailsrv-{program}` |" in text
    for folder in (ROOT / "mailsrv").iterdir():
        if (folder / "__init__.py").exists():
            assert re.search(rf"^{folder.name} ", text, re.M), folder.name


def test_health_md_has_the_table_of_symptoms_that_the_judge_reads() -> None:
    text = (ROOT / "docs" / "HEALTH.md").read_text()
    assert text == symptoms.put_into(text), "python -m mailsrv.work.symptoms docs/HEALTH.md writes it"
    assert {rule.symptom for rule in symptoms.RULES} == set(symptoms.Symptom)


def test_spool_md_names_every_folder() -> None:
    text = (ROOT / "docs" / "SPOOL.md").read_text()
    for name in ("tmp", "bad", *(state.value for state in State)):
        assert f"var/spool/{name}/" in text


def test_every_setting_has_a_comment_and_appears_in_the_written_configuration() -> None:
    defaults = config.Config(ROOT)
    written = tomllib.loads(config.render(defaults))
    tables: dict[str, Any] = {name: getattr(defaults, name) for name, found in written.items() if type(found) is dict}
    for name, table in {"": defaults, **tables}.items():
        settings = {field.name for field in dataclasses.fields(table) if field.metadata.get("doc")}
        found = written[name] if name else {key: value for key, value in written.items() if key not in tables}
        assert settings == set(found)


def test_every_command_has_a_help_text_that_begins_with_a_sentence() -> None:
    def walk(command: click.Command, name: str) -> None:
        assert command.help, name
        assert re.match(r"[A-Z][^.]*[.:]", command.help), name
        if isinstance(command, click.Group):
            for child in command.commands.values():
                walk(child, f"{name} {child.name}")

    walk(main, "mailsrv")


def test_no_document_or_source_names_a_place_of_one_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".conf", ""} and path.is_file():
            assert not re.search(r"/(?:home|root)/\w", path.read_text(errors="replace")), name
