# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of the program that runs under the application's interpreter, and of its starter."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import (
    _alembic,
    _alembic_child,
    _alembic_hazards,
    _alembic_migrate,
    _alembic_picture,
    _alembic_shim_script,
    _alembic_shim_session,
)
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError


def module(tmp_path: Path, text: str) -> types.ModuleType:
    path = tmp_path / "revision.py"
    path.write_text(text)
    made = types.ModuleType("revision")
    exec(compile(text, str(path), "exec"), made.__dict__)
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def upgrade():\n    work()\ndef downgrade():\n    undo()\n", True),
        ("def upgrade():\n    work()\ndef downgrade():\n    pass\n", False),
        ("def upgrade():\n    work()\ndef downgrade():\n    '''No way back.'''\n    ...\n    return None\n", False),
        ("def upgrade():\n    work()\ndef downgrade():\n    raise NotImplementedError\n    undo()\n", False),
        ("def upgrade():\n    pass\ndef downgrade():\n    pass\n", True),
        ("def upgrade():\n    work()\n", False),
        ("def upgrade():\n    work()\ndowngrade = print\n", False),
    ],
)
def test_what_can_be_taken_back(tmp_path: Path, text: str, expected: bool) -> None:
    assert _alembic_shim_script.reversible(module(tmp_path, text)) is expected


def test_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"psycopg2"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    assert _alembic_shim_script.with_driver("postgres://u:p%40@h/d", "") == "postgresql+psycopg2://u:p%40@h/d"
    assert _alembic_shim_script.with_driver("postgresql://h/d", "postgresql+asyncpg://x/y") == "postgresql+asyncpg://h/d"
    assert _alembic_shim_script.with_driver("postgresql+pg8000://h/d", "postgresql+asyncpg://x/y") == "postgresql+pg8000://h/d"
    assert _alembic_shim_script.with_driver("postgresql://h/d", "driver://user:pass@localhost/dbname") == "postgresql+psycopg2://h/d"
    there.clear()
    assert _alembic_shim_script.with_driver("postgresql://h/d", "") == "postgresql://h/d"
    there.update(("psycopg", "psycopg2"))
    assert _alembic_shim_script.with_driver("postgresql://h/d", "") == "postgresql://h/d"


class DriverError(Exception):
    sqlstate = "55P03"


def test_sqlstate_is_found_behind_any_error() -> None:
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = ValueError("middle")
    wrapped.__cause__.__context__ = DriverError("inner")
    assert _alembic_shim_session.sqlstate(wrapped) == "55P03"
    assert _alembic_shim_session.sqlstate(ValueError()) == ""
    assert _alembic_shim_session.sentence(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("statement", "index", "table"),
    [
        ('create unique index concurrently if not exists "My I" on only app."T" (a)', '"My I"', 'app."T"'),
        ("CREATE INDEX CONCURRENTLY i ON t USING gin (a)", "i", "t"),
    ],
)
def test_a_concurrent_build_is_recognised(statement: str, index: str, table: str) -> None:
    match = _alembic_shim_session.CONCURRENT_BUILD.match(statement)
    assert match is not None
    assert match.groups() == (index, table)
    assert _alembic_shim_session.CONCURRENTLY.match(statement)


def test_what_runs_concurrently() -> None:
    assert _alembic_shim_session.CONCURRENTLY.match("REINDEX TABLE CONCURRENTLY t")
    assert _alembic_shim_session.CONCURRENTLY.match("\n DROP INDEX CONCURRENTLY i")
    assert not _alembic_shim_session.CONCURRENTLY.match("CREATE INDEX i ON concurrently (a)")


def test_the_sources_come_along() -> None:
    for name in _alembic_child.SOURCES:
        found, file, source = _alembic_child._source(name)
        assert (found, Path(file).read_text()) == (name, source)
    with pytest.raises(RuntimeError, match="did not come along"):
        _alembic_child._source("_alembic_no_such")


def step(name: str, *rule_names: str, reversible: bool = True, neutral: bool = False) -> _alembic_picture.Pending:
    found = tuple(_alembic_hazards.finding(name, rule, "x") for rule in rule_names)
    return _alembic_picture.Pending(name, "", reversible, "", found, neutral)


def picture(*pending: _alembic_picture.Pending, heads: tuple[str, ...] = ("z",)) -> _alembic_picture.Picture:
    return _alembic_picture.Picture((), heads, (), pending, "alembic_version", ("alembic_version",), 0)


def planned(seen: _alembic_picture.Picture, phase: str, revision: str = "heads") -> list[str]:
    return [one.revision for one in _alembic_migrate.plan(seen, direction="upgrade", revision=revision, phase=phase)]


def test_the_chain_is_cut_at_the_first_contracting_revision() -> None:
    seen = picture(step("a"), step("b", "index-not-concurrent"), step("c", "drop-column"), step("merge", neutral=True), step("d", "rename"))
    assert planned(seen, "any") == ["a", "b", "c", "merge", "d"]
    assert planned(seen, "expand") == ["a", "b"]
    assert seen.maintenance_reason() == "b: index-not-concurrent"
    with pytest.raises(LastroError, match="a, b is still pending"):
        planned(seen, "contract")
    assert planned(picture(step("merge", neutral=True), step("c", "drop-column")), "contract") == ["merge", "c"]
    assert planned(picture(), "contract") == []
    behind = picture(step("c", "drop-column"), step("d"))
    assert planned(behind, "any") == ["c", "d"]
    with pytest.raises(LastroError, match="d stands behind contracting revision c"):
        planned(behind, "expand")


def test_several_heads_need_a_name() -> None:
    seen = picture(step("a"), heads=("a", "b"))
    with pytest.raises(LastroError, match="2 Alembic heads"):
        planned(seen, "any")
    assert planned(seen, "any", "a") == ["a"]


@pytest.mark.parametrize("revision", ["", "+1", "-2", "abc+1", "a:b"])
def test_relative_revisions_are_refused(revision: str) -> None:
    with pytest.raises(LastroError, match="relative or a range"):
        _alembic.checked_revision(revision)
