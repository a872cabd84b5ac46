# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own rules and squawk together over the corpus; how findings are weighed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_hazards as hazards
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_lint as lint
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_picture, _alembic_squawk
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_catalog import Catalog, Column, Table, no_rewrite, same_to_code
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_rules import Cleared
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

from .alembic_corpus import PAIRS, Pair

BIG = 1 << 30
OF_NO_STATEMENT = {"unrenderable", "empty-downgrade", "values-lost", "version-table-too-narrow", "named-contracting"} | {
    f"rehearsal-{what}" for what in ("rewrite", "lock", "removal", "not-reverted", "failed")
}


def table(size: int = BIG) -> Table:
    kinds = {"short": "character varying(50)", "price": "numeric(8,2)", "seen": "timestamp without time zone", "a": "integer", "email": "text"}
    columns = {name: Column(kind, not_null=False, proven=False) for name, kind in kinds.items()}
    return Table("public", "users", size, 1_000_000, {**columns, "required": Column("text", not_null=True, proven=False)}, ("id",))


CATALOG = Catalog({"users": table()}, utc=True)


def rendered(statement: str) -> str:
    recorded = "UPDATE alembic_version SET version_num='r' WHERE alembic_version.version_num = 'q'"
    return f"BEGIN;\n\n-- Running upgrade q -> r\n\n{statement};\n\n{recorded};\n\nCOMMIT;\n"


def picture(*statements: str) -> _alembic_picture.Picture:
    pending = tuple(_alembic_picture.Pending(f"r{number}", "", True, rendered(one), (), False) for number, one in enumerate(statements))
    return _alembic_picture.Picture((), ("z",), (), pending, "alembic_version", ("public", "alembic_version"), 0)


def read(*statements: str, options: lint.Lint = lint.Lint(), catalog: Catalog | None = CATALOG) -> tuple[_alembic_picture.Picture, list[Cleared]]:  # noqa: B008
    return lint.read_chain(picture(*statements), options, catalog)


def both(*statements: str, profile: str = "default", catalog: Catalog | None = CATALOG) -> list[hazards.Finding]:
    """What our rules and squawk say together, as the action plugin puts it."""
    judged, cleared = read(*statements, catalog=catalog)
    program = _alembic_squawk.program()
    assert program is not None, "requirements/runtime.txt brings squawk"
    found = _alembic_squawk.lint(program, {one.revision: one.sql for one in judged.pending}, profile=profile, server=18)
    return _alembic_squawk.merged(judged.findings, found, [one.as_result() for one in cleared])


def test_the_corpus_is_large_enough_and_has_every_rule() -> None:
    assert len({pair.unsafe for pair in PAIRS}) == len(PAIRS) >= 60
    assert {pair.rule for pair in PAIRS} | OF_NO_STATEMENT == set(hazards.RULES)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.unsafe[:60])
def test_the_unsafe_one_is_found_and_its_twin_is_not(pair: Pair) -> None:
    own = [one.rule for one in read(pair.unsafe)[0].findings]
    assert pair.rule in own
    assert [one.rule for one in read(pair.safe)[0].findings] == []


def test_with_squawk_every_unsafe_revision_is_found_and_no_safe_one() -> None:
    unsafe = both(*(pair.unsafe for pair in PAIRS), catalog=None)
    severe = {one.revision for one in unsafe if one.severity in ("block", "contract", "warn")}
    assert severe == {f"r{number}" for number in range(len(PAIRS))}
    safe = both(*(pair.safe for pair in PAIRS))
    assert [(PAIRS[int(one.revision[1:])].safe, one.rule) for one in safe] == []


def test_what_squawk_counts_as_contracting_our_rules_do_too() -> None:
    """Both modules must cut a chain at the same place, and only one of them asks squawk."""
    judged, _cleared = read(*(pair.unsafe for pair in PAIRS))
    program = _alembic_squawk.program()
    assert program
    found = _alembic_squawk.lint(program, {one.revision: one.sql for one in judged.pending}, profile="default", server=18)
    contracting = {one.revision for one in found if one.kind == "contract"}
    serial = {f"r{number}" for number, pair in enumerate(PAIRS) if "BIGSERIAL" in pair.unsafe}  # squawk does not know its default
    ours = {one.revision for one in judged.pending if one.contracting}
    assert len(contracting) > 15
    assert contracting - serial <= ours


def test_squawk_alone_finds_what_ours_would(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {
        **picture("CREATE INDEX i ON users (email)").as_result(),
        "tables": CATALOG.as_result(),
        "cleared": [],
        "lint": {"engine": "lastro", "server": 18},
    }
    answer = _alembic_squawk.with_squawk(result, lint.Lint(), _alembic_squawk.program())
    [finding] = answer["findings"]
    assert (finding["rule"], finding["engine"], finding["severity"], finding["table"]) == ("require-concurrent-index-creation", "squawk", "block", "users")
    assert answer["lint"]["engine"] == "lastro+squawk"
    assert answer["needs_maintenance_reason"] == "r0: require-concurrent-index-creation"
    assert _alembic_squawk.with_squawk(result, lint.Lint(), None) == {}
    assert _alembic_squawk.with_squawk(result, lint.Lint(profile="off"), _alembic_squawk.program()) == {}
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setattr(shutil, "which", lambda name: f"/path/{name}")
    assert _alembic_squawk.program() == "/path/squawk"


def test_a_squawk_that_does_not_work_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "squawk"
    broken.write_text("#!/bin/sh\necho no JSON\n")
    broken.chmod(0o755)
    with pytest.raises(LastroError, match="squawk does not work") as caught:
        _alembic_squawk.lint(str(broken), {"r": "SELECT 1;"}, profile="default", server=15)
    assert "squawk-cli" in caught.value.remedy.pt_BR


def test_matters_of_taste_are_asked_for() -> None:
    assert both("ALTER TABLE users ADD COLUMN a VARCHAR(10)") == []
    assert [one.rule for one in both("ALTER TABLE users ADD COLUMN a VARCHAR(10)", profile="strict")] == ["prefer-text-field"]


def test_a_chain_that_is_linted_in_one_file_would_hide_it() -> None:
    create, index = "CREATE TABLE orders (id BIGINT PRIMARY KEY)", "CREATE INDEX i ON orders (id)"
    program = _alembic_squawk.program()
    assert program
    found = _alembic_squawk.lint(program, {"a": rendered(create), "b": rendered(index)}, profile="default", server=18)
    assert [(one.revision, one.rule) for one in found] == [("b", "require-concurrent-index-creation")]
    assert _alembic_squawk.lint(program, {"all": rendered(f"{create};\n\n{index}")}, profile="default", server=18) == []


@pytest.mark.parametrize(("size", "severity"), [(0, "note"), (lint.SMALL - 1, "note"), (lint.SMALL, "warn"), (lint.LARGE - 1, "warn"), (lint.LARGE, "block")])
def test_a_wait_weighs_what_its_table_makes_of_it(size: int, severity: str) -> None:
    catalog = Catalog({"users": table(size)}, utc=True)
    judged, _cleared = read("CREATE INDEX i ON users (email)", catalog=catalog)
    assert [one.severity for one in judged.findings] == [severity]
    assert bool(judged.maintenance_reason()) is (severity == "block")
    contract, _cleared = read("ALTER TABLE users DROP COLUMN email", catalog=catalog)
    assert contract.pending[0].contracting


def test_what_is_not_known_counts_as_large() -> None:
    assert [one.severity for one in read("CREATE INDEX i ON users (email)", catalog=None)[0].findings] == ["block"]
    assert [one.severity for one in read("DROP INDEX i", catalog=Catalog({}, utc=True))[0].findings] == ["note"], "an index that is not there has no table"
    assert [one.severity for one in read("REINDEX SCHEMA s")[0].findings] == ["block"]


def test_allow_and_deny() -> None:
    options = lint.Lint(allow=("r0:drop-column",))
    judged, _cleared = read("ALTER TABLE users DROP COLUMN a", "ALTER TABLE users DROP COLUMN b", options=options)
    assert [(one.severity, one.allowed) for one in judged.findings] == [("note", True), ("contract", False)]
    assert [one.contracting for one in judged.pending] == [False, True]
    for deny in ("contract", "drop-column"):
        with pytest.raises(LastroError, match="r1: drop-column on users") as caught:
            lint.refuse_denied(judged, dataclasses.replace(options, deny=(deny,)), {"findings": 2})
        assert caught.value.facts == {"findings": 2, "code": "denied"}
    lint.refuse_denied(judged, dataclasses.replace(options, deny=("block", "note")), {})
    assert lint.Lint.from_params({"allow": ["x"], "deny": None}) == lint.Lint(allow=("x",))
    with pytest.raises(LastroError, match="names no rule"):
        lint.Lint.from_params({"allow": ["*"]})


def test_unrenderable_as_asked() -> None:
    base = picture("SELECT 1").plus([hazards.finding("r0", "unrenderable", "KeyError")])
    judged = {how: lint.read_chain(base, lint.Lint(unrenderable=how), CATALOG)[0] for how in lint.UNRENDERABLE}
    assert [judged[how].pending[0].contracting for how in lint.UNRENDERABLE] == [True, True, False]
    assert all(one.pending[0].unrenderable for one in judged.values())
    with pytest.raises(LastroError, match="unrenderable"):
        lint.refuse_denied(judged["deny"], lint.Lint(unrenderable="deny"), {})


def test_a_revision_prepares_the_next() -> None:
    judged, cleared = read(
        "ALTER TABLE users ADD CONSTRAINT filled CHECK (email IS NOT NULL) NOT VALID",
        "ALTER TABLE users VALIDATE CONSTRAINT filled",
        "ALTER TABLE users ALTER COLUMN email SET NOT NULL",
    )
    assert [one.rule for one in judged.findings] == ["set-not-null"]
    assert [(one.revision, one.rules) for one in cleared] == [("r2", ("set-not-null-scan",))]


def test_identifiers_that_do_not_fit() -> None:
    wide = picture("SELECT 1")
    assert [one.rule for one in lint.too_narrow(wide, 1)] == ["version-table-too-narrow"]
    assert lint.too_narrow(wide, 2) == []
    assert lint.too_narrow(wide, None) == []


def test_a_picture_is_made_again_from_what_was_returned() -> None:
    judged, _cleared = read("ALTER TABLE users DROP COLUMN a", "SELECT 1", "CREATE INDEX i ON users (email)")
    assert _alembic_picture.Picture.from_result(judged.as_result()) == judged


@pytest.mark.parametrize(
    ("old", "new", "utc", "untouched", "same"),
    [
        ("character varying(50)", "VARCHAR(100)", False, True, True),
        ("character varying(50)", "VARCHAR", False, True, True),
        ("character varying(50)", "TEXT", False, True, True),
        ("text", "VARCHAR", False, True, True),
        ("text", "VARCHAR(10)", False, False, True),
        ("character varying(50)", "VARCHAR(49)", False, False, True),
        ("character varying", "VARCHAR(50)", False, False, True),
        ("numeric(8,2)", "NUMERIC(10, 2)", False, True, True),
        ("numeric(8,2)", "DECIMAL", False, True, True),
        ("numeric(8,2)", "NUMERIC(10, 3)", False, False, True),
        ("numeric", "NUMERIC(10, 2)", False, False, True),
        ("timestamp without time zone", "TIMESTAMPTZ", True, True, False),
        ("timestamp without time zone", "TIMESTAMP WITH TIME ZONE", False, False, False),
        ("timestamp(3) without time zone", "TIMESTAMP(6)", False, True, True),
        ("integer", "BIGINT", False, False, False),
        ("integer", "INTEGER", False, True, False),
        ("integer", "TEXT", False, False, False),
    ],
)
def test_changes_of_type(old: str, new: str, utc: bool, untouched: bool, same: bool) -> None:
    assert no_rewrite(old, new, utc=utc) is untouched
    assert same_to_code(old, new) is same
