"""The text of `mailsrv.toml`: settings written with their comments, and single ones changed in what a person wrote."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def edited(text: str, table: str, values: Mapping[str, object]) -> str:
    """The text of a `mailsrv.toml` with these settings of a table changed, and everything else as it stands.

    A setting that is None is removed.
    """
    lines = text.splitlines()
    if f"[{table}]" not in (line.strip() for line in lines):
        lines += ["", f"[{table}]"]
    start = next(number for number, line in enumerate(lines) if line.strip() == f"[{table}]") + 1
    for key, value in values.items():
        end = next((at for at in range(start, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
        found = [at for at in range(start, end) if re.match(rf"\s*{re.escape(key)}\s*=", lines[at])]
        line = f"{key} = {_render_value(value)}"
        if found:
            lines[found[0] : found[0] + 1] = [] if value is None else [line]
        elif value is not None:
            while not lines[end - 1].strip():
                end -= 1
            lines.insert(end, line)
    return "\n".join(lines) + "\n"


def rendered(table: Any, name: str = "") -> list[str]:
    """The lines of the settings of a table, with their comments; of its name, where it has one."""
    lines = []
    for setting in fields(table):  # those that are tables stand last
        value = getattr(table, setting.name)
        if setting.metadata.get("is_table"):
            lines += ["", f"[{name}.{setting.name}]", f"# {setting.metadata['doc']}"]
            lines += [f'"{key}" = {_render_value(text)}' for key, text in value]
        elif setting.metadata:
            lines += [f"# {setting.metadata['doc']}", f"{setting.name} = {_render_value(value)}"]
    return lines


def _render_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_render_value(each) for each in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
