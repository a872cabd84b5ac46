# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""squawk, the linter, on the controller: one file for each revision, a curated list of its rules. PRIVATE to the collection.

One file for all would hide what happens to tables that an earlier revision has created. Format of its output: JSON of
C(--reporter json) as of squawk 2.70, a list of {file, line, column (both from 0), message, help, rule_name}.
"""

from __future__ import annotations

import bisect
import json
import re
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

from ._alembic_catalog import Catalog
from ._alembic_hazards import SEVERITY, Finding, Kind
from ._alembic_lint import Lint, weighed
from ._alembic_picture import Picture
from ._alembic_sql import NAME, plain, statements
from ._errors import LastroError, Text

SECONDS = 60
_WAIT: dict[str, tuple[str, ...]] = {
    "require-concurrent-index-creation": ("index-not-concurrent",),
    "require-concurrent-index-deletion": ("drop-index-not-concurrent",),
    "require-concurrent-reindex": ("blocking-command",),
    "require-concurrent-partition-detach": ("blocking-command",),
    "constraint-missing-not-valid": ("constraint-not-valid", "unique-constraint", "exclusion-constraint", "validate-same-transaction"),
    "adding-foreign-key-constraint": ("constraint-not-valid", "add-column-constraint"),
    "disallowed-unique-constraint": ("unique-constraint", "add-column-constraint"),
    "adding-serial-primary-key-field": ("unique-constraint", "add-column-constraint"),
    "adding-not-nullable-field": ("set-not-null-scan",),
    "adding-field-with-default": ("add-column-rewrite",),
    "changing-column-type": ("change-type-rewrite",),
    "ban-create-domain-with-constraint": ("domain-constraint",),
    "ban-alter-domain-with-add-constraint": ("domain-constraint",),
    "prefer-repack": ("blocking-command",),
}
_CONTRACT: dict[str, tuple[str, ...]] = {
    "adding-required-field": ("add-required-column", "add-column-rewrite"),
    "ban-drop-column": ("drop-column",),
    "ban-drop-table": ("drop-object",),
    "ban-drop-view": ("drop-object",),
    "ban-drop-type": ("drop-object",),
    "ban-drop-function": ("drop-object",),
    "ban-drop-schema": ("drop-object",),
    "ban-drop-sequence": ("drop-object",),
    "ban-drop-extension": ("drop-object",),
    "ban-drop-database": ("drop-object",),
    "ban-drop-default": ("drop-default",),
    "ban-set-schema": ("rename",),
    "ban-truncate-cascade": ("truncate",),
    "renaming-column": ("rename",),
    "renaming-table": ("rename",),
    "renaming-object": ("rename",),
}
_FAILS: dict[str, tuple[str, ...]] = {"ban-concurrent-index-creation-in-transaction": ("concurrently-in-transaction",)}
_STRICT = (
    "ban-drop-not-null",
    "ban-drop-constraint",
    "ban-drop-trigger",
    "ban-char-field",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "identifier-too-long",
)
TWINS: dict[str, tuple[str, ...]] = {**_WAIT, **_CONTRACT, **_FAILS}
"""Our own rules that say the same of a statement: where both speak, ours (which knows the catalog) is kept. Where ours is silent
although it would see the statement, the catalog or an earlier statement has cleared it."""
# Renaming a constraint or an index changes nothing for running code, a default that is NULL neither.
_HARMLESS = ("RENAME CONSTRAINT", "ALTER INDEX")


def program() -> str | None:
    """The squawk of this environment, else that of PATH."""
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.exists() else shutil.which("squawk")


def _kind(rule: str) -> Kind:
    return "wait" if rule in _WAIT else "contract" if rule in _CONTRACT else "fails" if rule in _FAILS else "notice"


def wanted(profile: str) -> list[str]:
    """The rules of a profile."""
    return [*TWINS, *(_STRICT if profile == "strict" else ())]


def lint(squawk: str, sql: t.Mapping[str, str], *, profile: str, server: int) -> list[Finding]:
    """What squawk says of each revision's SQL, for a *server* of that major version. Raises LastroError where it does not work."""
    with tempfile.TemporaryDirectory(prefix="lastro-squawk-") as directory:
        files = {}
        for number, (revision, text) in enumerate(sql.items()):
            path = Path(directory) / f"{number:05}.sql"
            path.write_text(text, encoding="utf-8")
            files[str(path)] = revision
        configuration = Path(directory) / "squawk.toml"
        configuration.write_text(f'pg_version = "{server}.0"\n', encoding="utf-8")
        answer = _run([squawk, "--reporter", "json", "--config", str(configuration), *files]) if files else []
    named = wanted(profile)
    return [_finding(files[one["file"]], one, sql[files[one["file"]]]) for one in answer if one["rule_name"] in named]


def _run(command: list[str]) -> list[dict[str, t.Any]]:
    try:
        # This runs on the controller, where there is no AnsibleModule.
        ended = subprocess.run(  # pylint: disable=ansible-bad-function
            command, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
        answer: list[dict[str, t.Any]] = json.loads(ended.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise LastroError(
            f"The linter squawk does not work here: {type(error).__name__}.",
            remedy=Text(
                en="Install the squawk-cli that requirements/runtime.txt pins into the controller's environment (make venv).",
                pt_BR="Instale no ambiente do controlador o squawk-cli fixado em requirements/runtime.txt (make venv).",
            ),
            code="squawk",
        ) from error
    return answer


def _finding(revision: str, one: t.Mapping[str, t.Any], text: str) -> Finding:
    found = statements(text)
    lines = text.splitlines(keepends=True)
    place = sum(len(line) for line in lines[: one["line"]]) + one["column"]
    statement = found[min(bisect.bisect_right([each.end for each in found], place), len(found) - 1)]
    kind = _kind(one["rule_name"])
    why, safe_way = " ".join(one["message"].split()), " ".join((one.get("help") or "").split())
    return Finding(revision, one["rule_name"], kind, SEVERITY[kind], _table(statement.pattern_text), statement.shown, why, safe_way, engine="squawk")


def _table(text: str) -> str:
    words = text.replace("IF EXISTS ", "").replace("ONLY ", "")
    for begin, after in (("ALTER TABLE ", "ALTER TABLE "), ("CREATE ", " ON "), ("DROP TABLE ", "DROP TABLE "), ("DROP INDEX ", "DROP INDEX ")):
        if words.startswith(begin):
            return plain(_first_name(words.partition(after)[2]))
    return ""


def _first_name(text: str) -> str:
    match = re.match(NAME, text)
    return match.group() if match else ""


def merged(own: t.Sequence[Finding], squawk: t.Sequence[Finding], cleared: t.Sequence[t.Mapping[str, t.Any]]) -> list[Finding]:
    """Both together: what both say stands once, and what the catalog has cleared does not stand."""
    said = {(one.revision, one.statement, one.rule) for one in own}
    silent = {(one["revision"], one["statement"], rule) for one in cleared for rule in one["rules"]}
    added = []
    for one in squawk:
        twins = [(one.revision, one.statement, rule) for rule in TWINS.get(one.rule, ())]
        harmless = any(word in one.statement.upper() for word in _HARMLESS)
        if not harmless and not any(twin in said or twin in silent for twin in twins):
            added.append(one)
    return [*own, *added]


def with_squawk(result: t.Mapping[str, t.Any], options: Lint, squawk: str | None) -> dict[str, t.Any]:
    """The return values of C(alembic_info) that change once squawk has been asked; none where it is not installed. Raises LastroError."""
    if not options.on or squawk is None or not result["pending"]:
        return {}
    sql = {one["revision"]: one["sql"] for one in result["sql"]}
    found = lint(squawk, sql, profile=options.profile, server=result["lint"]["server"])
    picture = Picture.from_result(result)
    weights = weighed(found, options, Catalog.from_result(result["tables"]))
    both = picture.with_findings(merged(picture.findings, weights, result["cleared"]))
    return {**both.as_result(), "lint": {**result["lint"], "engine": "lastro+squawk"}}


__all__ = ("TWINS", "Picture", "lint", "merged", "program", "wanted", "with_squawk")
