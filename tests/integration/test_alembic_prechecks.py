# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic_info counts the rows that would make a pending revision fail; each revision is then tried, and does fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from .alembic_project import App, Modules

CASES = {
    "nulls": ("op.alter_column('pets', 'name', nullable=False)", 12, 10),
    "duplicates": ("op.create_unique_constraint('uq_tag', 'pets', ['tag'])", None, 10),
    "orphans": ("op.create_foreign_key('fk_owner', 'pets', 'owners', ['owner'], ['id'])", 1, 1),
    "violations": ("op.create_check_constraint('ck_age', 'pets', 'age >= 0')", 2, 2),
    "casts": ("op.alter_column('pets', 'chip', type_=sa.Integer(), postgresql_using='chip::integer')", 3, 3),
}
ROWS = """
CREATE TABLE owners (id int PRIMARY KEY);
CREATE TABLE pets (id int PRIMARY KEY, name text, tag text, owner int, age int, chip text);
INSERT INTO owners VALUES (1);
INSERT INTO pets SELECT n, CASE WHEN n > 12 THEN 'x' END, CASE WHEN n <= 20 THEN 'same' ELSE n::text END,
  CASE WHEN n = 5 THEN 99 ELSE 1 END, CASE WHEN n IN (7, 8) THEN -1 ELSE 1 END, CASE WHEN n <= 3 THEN 'none' ELSE n::text END
FROM generate_series(1, 30) n
"""


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.mark.parametrize("kind", list(CASES))
def test_what_would_fail_is_counted_before_it_fails(modules: Modules, tmp_path: Path, database: str, kind: str) -> None:
    upgrade, count, keys = CASES[kind]
    app = App.create(tmp_path / "release", database, {"p1": (upgrade, "pass")})
    app.rows(ROWS)
    result = modules.info(app)
    [found] = [one for one in result["prechecks"] if one["count"]]
    assert (found["check"], found["table"], found["certain"], found["complete"]) == (kind, "pets", True, True)
    assert found["count"] == count or (count is None and found["count"] >= 19)
    assert len(found["primary_keys"]) == keys
    [finding] = [one for one in result["findings"] if one["engine"] == "data"]
    assert (finding["rule"], finding["kind"], finding["severity"]) == (f"data-{kind}", "fails", "block")
    assert modules.alembic(app, fails=True)["after"] == []
    app.rows("DELETE FROM pets WHERE id <= 20")
    assert [one["count"] for one in modules.info(app)["prechecks"]] == [0]
    assert modules.alembic(app)["after"] == ["p1"]
