# SPDX-License-Identifier: GPL-3.0-or-later
"""The example of eduautismo: its contract by hand, from its models and from a good database; faults in a copy; what a person reads."""

from __future__ import annotations

import collections.abc
import importlib.util
import sys
import typing as t
from pathlib import Path

import pytest
import sqlalchemy
import yaml
from ansible_collections.lastro.deploy.plugins.modules import index_contract_info, index_validation

from .sql import execute

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "eduautismo"
GUIDE = ROOT / "docs" / "index-contract.md"
PROFILE: dict[str, t.Any] = yaml.safe_load((EXAMPLE / "indexes.yml").read_text(encoding="utf-8"))
FOUR = PROFILE["deploy_indexes"]
P = "ix_intervention_plans_"
Call = collections.abc.Callable[..., dict[str, t.Any]]
ROWS = """
INSERT INTO professionals (email) SELECT g || '@example.org' FROM generate_series(1, 200) g;
INSERT INTO intervention_plans (title, status, needs_review, last_reviewed_at, review_frequency, created_by_id)
SELECT 'Plan ' || g || repeat('x', 100), CASE g % 50 WHEN 0 THEN 'active' ELSE 'closed' END, g % 100 = 0, now() - g * interval '1 hour', 'weekly', g % 200 + 1
FROM generate_series(1, 20000) g;
ANALYZE;
"""


@pytest.fixture
def eduautismo(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example's database, made from its models, with enough rows for the planner to choose."""
    specification = importlib.util.spec_from_file_location("eduautismo_models", EXAMPLE / "models.py")
    assert specification and specification.loader
    models_module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, specification.name, models_module)
    specification.loader.exec_module(models_module)
    engine = sqlalchemy.create_engine(database.replace("postgresql://", "postgresql+psycopg2://"))
    models_module.Base.metadata.create_all(engine)
    engine.dispose()
    execute(database, ROWS)
    return database


def validate(call_module: Call, url: str, **options: object) -> dict[str, t.Any]:
    asked = {"indexes": FOUR, "queries": PROFILE["deploy_index_queries"], **PROFILE["deploy_index_validation"]}
    return call_module(index_validation, database_url=url, **{**asked, **options})


def sample(language: str) -> str:
    """The output that the guide shows."""
    text = GUIDE.read_text(encoding="utf-8")
    start = {"en": "✓ Connected to the database", "pt_BR": "✓ Conectado ao banco"}[language]
    return text[text.index(start) :].partition("\n```")[0]


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_what_a_person_reads(eduautismo: str, call_module: Call, language: str) -> None:
    answer = validate(call_module, eduautismo)
    assert (answer.get("msg"), answer["valid"], answer["total"], answer["used"], answer["findings"]) == (None, 4, 4, 4, [])
    first, *rest = answer["text"][language].splitlines()
    shown_first, *shown = sample(language).splitlines()
    assert first.partition(":")[0] == shown_first.partition(":")[0]
    assert [line.strip() for line in rest] == [line.strip() for line in shown], "\n".join(rest)


SEEDED = {
    "missing": (f"DROP INDEX {P}review_frequency", f"{P}review_frequency", "missing"),
    "renamed": (f"ALTER INDEX {P}created_by_id RENAME TO other", f"{P}created_by_id", "other_name"),
    "order": (
        f"DROP INDEX {P}status_needs_review; CREATE INDEX {P}status_needs_review ON intervention_plans (needs_review, status)",
        f"{P}status_needs_review",
        "different",
    ),
    "column": (
        f"DROP INDEX {P}last_reviewed_at; CREATE INDEX {P}last_reviewed_at ON intervention_plans (review_frequency)",
        f"{P}last_reviewed_at",
        "different",
    ),
    "partial": (
        f"DROP INDEX {P}created_by_id; CREATE INDEX {P}created_by_id ON intervention_plans (created_by_id) WHERE needs_review",
        f"{P}created_by_id",
        "different",
    ),
    "method": (
        f"DROP INDEX {P}review_frequency; CREATE INDEX {P}review_frequency ON intervention_plans USING hash (review_frequency)",
        f"{P}review_frequency",
        "different",
    ),
    "invalid": (f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{P}last_reviewed_at'::regclass", f"{P}last_reviewed_at", "invalid"),
    "table": ("ALTER TABLE intervention_plans RENAME TO plans", f"{P}created_by_id", "no_table"),
    "taken": (f"DROP INDEX {P}created_by_id; CREATE INDEX {P}created_by_id ON professionals (email)", f"{P}created_by_id", "name_taken"),
}


@pytest.mark.parametrize("fault", SEEDED)
def test_seeded_faults_are_found(eduautismo: str, call_module: Call, fault: str) -> None:
    statement, index, kind = SEEDED[fault]
    execute(eduautismo, statement)
    answer = validate(call_module, eduautismo)
    found = {(finding["index"], finding["kind"]) for finding in answer["findings"] if finding["about"] == "contract"}
    assert (index, kind) in found
    assert len(found) == (4 if fault == "table" else 1)
    for language, word in (("en", "✗ FAILURE"), ("pt_BR", "✗ FALHA")):
        assert word in answer["text"][language]
        assert f"Valida{'ting' if language == 'en' else 'ndo'}: {index}" in answer["text"][language]


def models(name: str = "models:Base", **more: object) -> dict[str, t.Any]:
    return {"python": sys.executable, "chdir": str(EXAMPLE), "metadata": name, **more}


def test_the_models_make_the_contract_and_the_database_fulfils_it(eduautismo: str, call_module: Call) -> None:
    made = call_module(index_contract_info, models=models())
    assert [entry for entry in made["indexes"] if entry["table"] == "intervention_plans" and "constraint" not in entry] == sorted(
        FOUR, key=lambda one: one["name"]
    )
    assert made["left_out"] == []
    assert yaml.safe_load(made["yaml"]) == {"deploy_indexes": made["indexes"]}
    kinds = sorted(entry.get("constraint", "") for entry in made["indexes"])
    assert kinds == ["", "", "", "", "primary_key", "primary_key", "unique"]
    answer = validate(call_module, eduautismo, indexes=made["indexes"])
    assert (answer["findings"], answer["valid"]) == ([], 7)
    captured = call_module(index_contract_info, database_url=eduautismo, tables=["intervention_plans"])
    four = [{name: entry[name] for name in ("name", "table", "columns")} for entry in captured["indexes"] if "constraint" not in entry]
    assert four == sorted(FOUR, key=lambda one: one["name"])
    assert validate(call_module, eduautismo, indexes=captured["indexes"])["valid"] == 5


MODELS = """
import os
from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, UniqueConstraint, desc, func, text
from sqlalchemy.dialects.postgresql import ExcludeConstraint, JSONB

metadata = MetaData(naming_convention={"uq": "uq_%(table_name)s_%(column_0_name)s"})
users = Table(
    "users", metadata, Column("id", Integer, primary_key=True), Column("email", String(200)), Column("Odd Name", Integer), Column("order", Integer),
    Column("doc", JSONB), Column("deleted", Boolean), UniqueConstraint("email"),
    ExcludeConstraint((text("'[1,2]'::int4range"), "&&"), using="gist", name="ex"), schema="shop",
)
Index("ix_lower", func.lower(users.c.email), unique=True, postgresql_where=users.c.deleted.is_(False))
Index("ix_desc", desc(users.c.id).nulls_last(), users.c["Odd Name"])
Index("ix_gin", users.c.doc, postgresql_using="gin", postgresql_ops={"doc": "jsonb_path_ops"})
Index("ix_incl", users.c.order, postgresql_include=["email"])
Index("ix_nulls", users.c.order, unique=True, postgresql_nulls_not_distinct=True)
print("an application may print what it likes")
if os.environ.get("SHOP_PASSWORD"):
    raise RuntimeError("cannot connect with " + os.environ["SHOP_PASSWORD"] + " to postgresql://shop:hunter2@db/shop")
"""


def test_models_with_everything(database: str, call_module: Call, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODELS, encoding="utf-8")
    made = call_module(index_contract_info, models=models("shop:metadata", chdir=str(tmp_path)))
    assert made["left_out"] == ["shop.users: exclusion constraint ex"]
    assert {entry["name"] for entry in made["indexes"] if entry.get("name")} == {"ix_lower", "ix_desc", "ix_gin", "ix_incl", "ix_nulls", "uq_users_email"}
    namespace: dict[str, t.Any] = {}
    exec(MODELS, namespace)
    engine = sqlalchemy.create_engine(database.replace("postgresql://", "postgresql+psycopg2://"))
    execute(database, "CREATE SCHEMA shop")
    namespace["users"].constraints -= {one for one in namespace["users"].constraints if one.name == "ex"}
    namespace["metadata"].create_all(engine)
    engine.dispose()
    answer = call_module(index_validation, database_url=database, indexes=made["indexes"])
    assert (answer["findings"], answer["valid"]) == ([], 7)
    captured = call_module(index_contract_info, database_url=database, schemas=["shop"])
    assert call_module(index_validation, database_url=database, indexes=yaml.safe_load(captured["yaml"])["deploy_indexes"])["valid"] == 7
    assert call_module(index_contract_info, models=models("shop:metadata", chdir=str(tmp_path)), tables=["other"])["yaml"] == "deploy_indexes: []\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metadata": "nothing:Base"}, "ModuleNotFoundError: No module named 'nothing'"),
        ({"metadata": "models:Nothing"}, "AttributeError"),
        ({"metadata": "models:datetime"}, "AttributeError"),
        ({"python": "/nowhere/python"}, "No such file or directory"),
        ({"chdir": "/nowhere"}, "No such file or directory"),
        ({"python": "/bin/false"}, "the interpreter ended with 1"),
        ({"timeout": 0}, "nothing came within 0 s"),
    ],
)
def test_models_that_cannot_be_read(call_module: Call, change: dict[str, t.Any], says: str) -> None:
    answer = call_module(index_contract_info, models={**models(), **change})
    assert answer["failed"] is True and says in answer["problem"], answer
    assert "package.module:object" in answer["remedy"]["en"]


def test_no_secret_of_the_application_is_shown(call_module: Call, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODELS, encoding="utf-8")
    variables = tmp_path / "shop.env"
    variables.write_text("SHOP_PASSWORD=correct-horse\n", encoding="utf-8")
    answer = call_module(index_contract_info, models=models("shop:metadata", chdir=str(tmp_path)), environment_file=str(variables))
    assert "RuntimeError: cannot connect with" in answer["problem"]
    assert "correct-horse" not in str(answer) and "hunter2" not in str(answer)
    answer = call_module(index_contract_info, models=models(), environment_file=str(tmp_path / "none.env"))
    assert "cannot be read" in answer["problem"]


def test_a_database_that_refuses(database: str, call_module: Call) -> None:
    answer = call_module(index_contract_info, database_url=f"{database}_gone")
    assert "cannot be reached" in answer["problem"]


@pytest.mark.parametrize("kind", ["of a report", "of the contract"])
def test_the_phase_says_what_is_new(
    eduautismo: str, player: collections.abc.Callable[..., t.Any], include_role: collections.abc.Callable[..., dict[str, t.Any]], tmp_path: Path, kind: str
) -> None:
    """The task files of preflight and of the phase, with a migration in between that a finding does not come from, then with one that it comes from."""
    variables = tmp_path / "r2.env"
    variables.write_text(f"DATABASE_URL={eduautismo}\n", encoding="utf-8")
    variables.chmod(0o600)
    given: dict[str, t.Any] = {
        "deploy_work_env": str(variables),
        "deploy_lease": {},
        "deploy_early_check": False,
        "deploy_indexes": FOUR,
        "deploy_index_validation": {"fail_on": ["contract", "missing_fk"]},
    }
    old, new = {
        "of a report": (
            "CREATE TABLE notes (plan bigint REFERENCES intervention_plans)",
            "CREATE TABLE tags (plan bigint REFERENCES intervention_plans)",
        ),
        "of the contract": (f"DROP INDEX {P}review_frequency", f"DROP INDEX {P}created_by_id"),
    }[kind]
    migration = {"ansible.builtin.command": {"argv": [sys.executable, "-c", MIGRATION, "{{ old_or_new }}"]}, "environment": {"DATABASE_URL": eduautismo}}
    play = player({"deploy_state_dir": str(tmp_path)})
    before, phase = include_role("validate", "before", **given), include_role("validate", "main", **given)
    harmless = {**migration, "vars": {"old_or_new": "SELECT 1"}}
    execute(eduautismo, old)
    found = play(before, harmless, phase, facts=["validate_evidence"], fails=kind == "of the contract")
    if kind == "of a report":
        assert found.facts["validate_evidence"] == {"total": 4, "valid": 4, "used": 4, "repairs": []}
    else:
        assert f"{P}review_frequency: missing (so before this run)" in found.output
    found = play(before, {**migration, "vars": {"old_or_new": new}}, phase, fails=True)
    lines = [line for line in found.output.replace("\\n", "\n").splitlines() if line.startswith("- ")]
    fresh = "notes" if kind == "of a report" else f"{P}review_frequency"
    assert [line for line in lines if "so before this run" in line] == [line for line in lines if fresh in line]
    assert any("so before this run" not in line for line in lines)


MIGRATION = """
import os, sys, psycopg2
connection = psycopg2.connect(os.environ["DATABASE_URL"])
connection.autocommit = True
connection.cursor().execute(sys.argv[1])
"""
