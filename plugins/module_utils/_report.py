# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as files beside each other: read the journal, render, write what differs. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import stat
import typing as t
from pathlib import Path

from . import _report_html, _report_markdown
from ._errors import LastroError, Text
from ._files import parse_json_lines, write_atomic
from ._journal import journal_file
from ._report_model import Report, make_report
from ._texts_format import check_language

FORMATS = ("html", "md", "json")
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the report as it is (None: missing) and as it is to be."""

    path: Path
    before: bytes | None
    after: bytes
    mode_differs: bool

    @property
    def differs(self) -> bool:
        """Whether it has to be written."""
        return self.before != self.after or self.mode_differs


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be written where."""

    dest: Path
    dest_differs: bool
    report: Report
    files: dict[str, File]

    @property
    def changed(self) -> bool:
        """Whether anything has to be written."""
        return self.dest_differs or any(file.differs for file in self.files.values())

    def result(self) -> dict[str, t.Any]:
        """The return values of the module."""
        return {
            "changed": self.changed,
            "paths": {name: str(file.path) for name, file in self.files.items()},
            "outcome": self.report.outcome,
            "sha256": self.report.journal_sha256,
            "diff": [_diff(name, file) for name, file in self.files.items() if file.differs],
        }


def plan_report(params: t.Mapping[str, t.Any]) -> Plan:
    """What the options of the module ask for, compared with the files there. Raises LastroError."""
    language = check_language(params["language"])
    run_id, dest = params["run_id"], Path(params["dest"])
    content = _journal(Path(params["state_dir"]), run_id)
    report = make_report(
        parse_json_lines(content),
        sha256=hashlib.sha256(content).hexdigest(),
        language=language,
        checklist=params.get("checklist") or (),
        figures=params.get("figures"),
    )
    try:
        files = {name: _file(dest / f"{run_id}.{name}", render(report, name)) for name in FORMATS if name in params["formats"]}
        differs = not dest.is_dir() or stat.S_IMODE(dest.stat().st_mode) != DIRECTORY_MODE
    except OSError as error:
        raise _unusable(dest, error) from error
    return Plan(dest, differs, report, files)


def write(plan: Plan) -> None:
    """Make the directory and the files as planned. Raises LastroError."""
    try:
        if plan.dest_differs:
            plan.dest.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            plan.dest.chmod(DIRECTORY_MODE)
        for file in plan.files.values():
            if file.differs:
                write_atomic(file.path, file.after, mode=FILE_MODE)
    except OSError as error:
        raise _unusable(plan.dest, error) from error


def render(report: Report, kind: str) -> bytes:
    """The report as html, md or json."""
    if kind == "html":
        return _report_html.render(report).encode()
    if kind == "md":
        return _report_markdown.render(report).encode()
    return (json.dumps(report.as_dict(), ensure_ascii=False, indent=2) + "\n").encode()


def _journal(state_dir: Path, run_id: str) -> bytes:
    if not _RUN_ID.match(run_id):
        raise LastroError(
            f"run_id is {run_id!r}, which is no id of a run.",
            remedy=Text(en="Give the id as the journal's file is named.", pt_BR="Informe o id como no nome do arquivo do diário."),
        )
    path = journal_file(state_dir, run_id)
    remedy = Text(
        en="Check state_dir and run_id: the journals are in the directory runs there.",
        pt_BR="Verifique state_dir e run_id: os diários ficam ali no diretório runs.",
    )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LastroError(f"The journal {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    if not parse_json_lines(content):
        raise LastroError(f"The journal {path} has no record.", remedy=remedy)
    return content


def _file(path: Path, after: bytes) -> File:
    if not path.exists():
        return File(path, None, after, mode_differs=False)
    return File(path, path.read_bytes(), after, mode_differs=stat.S_IMODE(path.stat().st_mode) != FILE_MODE)


def _diff(kind: str, file: File) -> dict[str, str]:
    headers = {"before_header": str(file.path), "after_header": str(file.path)}
    before = b"" if file.before is None else file.before
    if kind == "html":
        # The page says the same as the Markdown: its source would only hide that.
        return {**headers, "before": _digest(file.before), "after": _digest(file.after)}
    return {**headers, "before": before.decode("utf-8", errors="replace"), "after": file.after.decode()}


def _digest(content: bytes | None) -> str:
    return "" if content is None else f"sha256 {hashlib.sha256(content).hexdigest()}\n"


def _unusable(dest: Path, error: OSError) -> LastroError:
    return LastroError(
        f"dest {dest} cannot be used: {error.strerror}.",
        remedy=Text(en="Free some space there, or correct the owner of the directory.", pt_BR="Libere espaço ali, ou corrija o dono do diretório."),
    )


__all__ = ("FORMATS", "File", "Plan", "plan_report", "render", "write")
