# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed run does next: every cell, the cases that people ask about, and the outcome that follows."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import itertools
import subprocess
import sys
import types
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lastro.deploy.plugins.filter import decide as decide_filter
from ansible_collections.lastro.deploy.plugins.module_utils import _decide
from ansible_collections.lastro.deploy.plugins.module_utils._decide import Backup, Facts, decide, facts_of, outcome
from ansible_collections.lastro.deploy.plugins.module_utils._journal import RunState

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "tests" / "bin" / "generate-rollback-table"
FLAGS = ("switched", "writes_possible", "restorable")

# (name, facts that differ from those of a run that failed before it changed anything, scope, decrypt)
CASES: list[tuple[str, dict[str, t.Any], str, bool]] = [
    ("preflight has failed", {}, "nothing", False),
    ("the very first deploy has failed before it served", {"target": ""}, "nothing", False),
    ("an expanding revision ran, the old release serves", {"migration": "compatible"}, "nothing", False),
    ("tokens are half encrypted, the old release serves", {"migration": "compatible", "tokens": "both"}, "nothing", False),
    ("smoke has failed, no revision", {"switched": True}, "code", False),
    ("smoke has failed on an expanded schema", {"switched": True, "migration": "compatible", "tokens": "both"}, "code", False),
    ("a breaking revision ran before the switch", {"migration": "reversible"}, "migration", False),
    ("a breaking revision ran and the new release serves", {"migration": "reversible", "switched": True}, "code_and_migration", False),
    ("clear text is gone, and the contracting revision has failed", {"switched": True, "tokens": "cleared"}, "code", True),
    ("clear text is gone, and the schema must go back", {"switched": True, "tokens": "cleared", "migration": "reversible"}, "code_and_migration", True),
    ("clear text is gone, old code already serves", {"tokens": "cleared"}, "code", True),
    ("a column was dropped, users are still kept out", {"migration": "irreversible", "writes_possible": False, "restorable": True}, "restore", False),
    ("a column was dropped, users have written since", {"migration": "irreversible", "switched": True, "restorable": True}, "needs_human", False),
    ("a column was dropped without a second backup", {"migration": "irreversible"}, "needs_human", False),
    ("the very first deploy serves and has failed", {"switched": True, "target": ""}, "needs_human", False),
    (
        "the very first deploy has dropped something",
        {"migration": "irreversible", "writes_possible": False, "restorable": True, "target": ""},
        "restore",
        False,
    ),
    ("clear text is gone and no release wants it", {"tokens": "cleared", "target": ""}, "needs_human", False),
    ("the schema should go back, but for whom?", {"migration": "reversible", "target": ""}, "needs_human", False),
]


def generator() -> types.ModuleType:
    loader = importlib.machinery.SourceFileLoader("generate_rollback_table", str(GENERATOR))
    module = importlib.util.module_from_spec(t.cast(importlib.machinery.ModuleSpec, importlib.util.spec_from_loader(loader.name, loader)))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "facts", "scope", "decrypt"), CASES, ids=[case[0] for case in CASES])
def test_named_cases(name: str, facts: dict[str, t.Any], scope: str, decrypt: bool) -> None:
    decision = decide(Facts(**{"target": "r1", **facts}))
    assert (decision.scope, decision.decrypt) == (scope, decrypt)


def test_the_page_has_every_cell_and_is_the_one_that_the_code_makes() -> None:
    made = generator()
    table = made.cells()
    assert len(table) == 4 * 3 * 2**4
    text = (ROOT / "docs" / "rollback-table.md").read_text(encoding="utf-8")
    assert text == made.page(), "run tests/bin/generate-rollback-table"
    for (migration, tokens, *flags), (scope, decrypt, english, portuguese) in table.items():
        assert f"| {migration} | {tokens} | {' | '.join(flags)} | `{scope}` | {'yes' if decrypt else 'no'} | {english} | {portuguese} |\n" in text
    # The short table says the same of each cell, exactly once.
    spread: dict[tuple[str, ...], t.Any] = {}
    for cell, answer in made.folded(table):
        for expanded in itertools.product(*(("no", "yes") if value == "any" else (value,) for value in cell)):
            assert expanded not in spread
            spread[expanded] = answer
    assert spread == table


def test_the_script_compares_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    finished = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
    made = generator()
    made.PAGE = tmp_path / "page.md"  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", ["generate-rollback-table", "--check"])
    assert made.main() == 1
    assert "run tests/bin/generate-rollback-table" in capsys.readouterr().err
    assert not made.PAGE.exists()
    monkeypatch.setattr(sys, "argv", ["generate-rollback-table"])
    assert made.main() == 0
    assert made.PAGE.read_text(encoding="utf-8") == made.page()


@pytest.mark.parametrize("migration", _decide.MIGRATIONS)
@pytest.mark.parametrize("tokens", _decide.TOKENS)
@pytest.mark.parametrize("flags", list(itertools.product((False, True), repeat=3)))
@pytest.mark.parametrize("target", ["", "r1"])
def test_what_holds_in_every_cell(migration: _decide.Migration, tokens: _decide.Tokens, flags: tuple[bool, ...], target: str) -> None:
    facts = Facts(migration, tokens, **dict(zip(FLAGS, flags, strict=True)), target=target)
    decision = decide(facts)
    assert decision.scope in _decide.SCOPES
    assert all(decision.reason)
    if decision.scope == "restore":
        assert facts.migration == "irreversible" and facts.restorable and not facts.writes_possible
    if "migration" in decision.scope:
        assert facts.migration == "reversible"
    if decision.scope in ("code", "migration", "code_and_migration"):
        assert facts.target and facts.migration != "irreversible"
        assert decision.decrypt is (facts.tokens == "cleared")
    if decision.scope == "nothing":
        assert not facts.switched and facts.tokens != "cleared" and facts.migration in ("none", "compatible")


def state(_contract: dict[str, t.Any] | None = None, /, **phases: str) -> RunState:
    return RunState(phases=phases, evidence={"contract": _contract or {}})


def facts(*states: RunState, migrated: bool = True, compatible: bool = True, reversible: bool = True, serving: t.Sequence[str] = ("r1",)) -> Facts:
    return facts_of(states, compatible=compatible, reversible=reversible, migrated=migrated, target="r1", serving=serving)


def test_facts_from_a_journal() -> None:
    assert facts(state(backup="ok"), migrated=False, serving=()) == Facts(target="r1")
    assert facts(state(migrate="ok")).migration == "compatible"
    assert facts(state(migrate="ok"), compatible=False).migration == "reversible"
    assert facts(state(migrate="ok"), compatible=False, reversible=False).migration == "irreversible"
    seen = RunState(evidence={"rehearse": {"breaking": ["a"], "irreversible": ["b"]}})
    assert [
        facts_of([seen], compatible=True, reversible=True, migrated=True, target="r1", serving=["r1"], between=list(names)).migration
        for names in ("c", "ca", "ab")
    ] == [
        "compatible",
        "reversible",
        "irreversible",
    ]
    assert facts(state(), serving=["r1", "r2"]).switched is True
    assert facts(state(), serving=["r1"]).switched is False


@pytest.mark.parametrize(
    ("phases", "contract", "tokens"),
    [
        ({"migrate": "ok"}, {}, "untouched"),
        ({"protect": "skipped"}, {}, "untouched"),
        ({"protect": "skipped", "contract": "failed"}, {}, "untouched"),
        ({"protect": "started"}, {}, "both"),
        ({"protect": "failed"}, {}, "both"),
        ({"protect": "ok"}, {}, "both"),
        ({"protect": "ok", "contract": "skipped"}, {"skipped_because": "nothing"}, "both"),
        ({"protect": "ok", "contract": "ok"}, {"cleared": 0}, "both"),
        ({"protect": "ok", "contract": "ok"}, {"cleared": 7}, "cleared"),
        # Killed or failed in the middle, there is no evidence: rows may have been cleared.
        ({"protect": "ok", "contract": "started"}, {}, "cleared"),
        ({"protect": "ok", "contract": "failed"}, {}, "cleared"),
    ],
)
def test_tokens_from_a_journal(phases: dict[str, str], contract: dict[str, t.Any], tokens: str) -> None:
    assert facts(state(contract, **phases)).tokens == tokens


def test_a_restore_needs_the_backup_under_a_maintenance_that_is_still_on() -> None:
    backup = Backup("b", since={"p1": "22:10", "p2": "22:11"}, doors={"p1": "22:10", "p2": "22:11"}, identity=True)
    changes: list[tuple[dict[str, t.Any], bool, bool]] = [
        ({}, True, False),
        ({"identity": False}, False, False),
        ({"left": True}, True, True),
        ({"writers": True}, True, True),
        # One that was opened, one that was opened and shut again, one that nobody could look at, and none that was shut.
        ({"doors": {"p1": "22:10", "p2": ""}}, True, True),
        ({"doors": {"p1": "22:10", "p2": "23:00"}}, True, True),
        ({"doors": {"p1": "22:10"}}, True, True),
        ({"since": {}}, True, True),
        ({"since": {"p1": ""}, "doors": {"p1": ""}}, True, True),
    ]
    for change, restorable, writes_possible in changes:
        found = facts_of([], compatible=False, reversible=False, migrated=True, target="r1", serving=[], backup=dataclasses.replace(backup, **change))
        assert (found.restorable, found.writes_possible) == (restorable, writes_possible), change
    none = facts(state(maintenance_enter="ok"))
    assert (none.restorable, none.writes_possible) == (False, True)


FAILED = {"failed_phase": "smoke", "phases": {"smoke": "failed", "rollback": "ok"}}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"phases": {"contract": "ok"}}, "deployed"),
        ({"phases": {"contract": "skipped"}}, "deployed"),
        ({"phases": {"contract": "started"}}, "unfinished"),
        ({}, "unfinished"),
        ({"evidence": {"preflight": {"nothing_to_do": True}}}, "nothing_to_do"),
        ({"failed_phase": "backup"}, "needs_human"),
        ({"requests": [{"what": "roll back"}], "phases": {"contract": "ok"}}, "needs_human"),
        ({**FAILED, "decision": {"scope": "needs_human"}}, "needs_human"),
        ({**FAILED, "decision": {"scope": "code", "facts": {"switched": True, "migration": "none"}}}, "rolled_back"),
        ({**FAILED, "decision": {"scope": "nothing", "facts": {"switched": False, "migration": "none"}}}, "failed_nothing_changed"),
        ({**FAILED, "decision": {"scope": "nothing", "facts": {"switched": False, "migration": "none", "tokens": "both"}}}, "rolled_back"),
        ({**FAILED, "decision": {"scope": "nothing", "facts": {"switched": False, "migration": "compatible"}}}, "rolled_back"),
        ({**FAILED, "phases": {"rollback": "failed"}, "decision": {"scope": "code"}}, "rollback_incomplete"),
        ({**FAILED, "phases": {}, "decision": {"scope": "nothing", "facts": {"migration": "none"}}}, "rollback_incomplete"),
    ],
)
def test_outcome(run: dict[str, t.Any], expected: str) -> None:
    assert outcome(RunState(**{**run, "requests": tuple(run.get("requests", ()))})) == expected
    # The filter gets what the module journal returns, with more in it.
    assert decide_filter.outcome({**run, "sound": False, "problem": "x"}) == expected


RUN = {"phases": {"migrate": "ok", "protect": "ok", "smoke": "failed"}, "evidence": {}}


def answer(run: dict[str, t.Any], **other: object) -> dict[str, t.Any]:
    options: dict[str, t.Any] = {"target": "r1", "serving": ["r2"], "migrated": True, "compatible": True, "reversible": True, **other}
    found: dict[str, t.Any] = decide_filter.FilterModule().filters()["decide"](run, **options)
    return found


def test_filter_gives_plain_data() -> None:
    assert answer(RUN) == {
        "scope": "code",
        "reason": {"en": "schema stays (compatible)", "pt_BR": "o esquema fica (compatível)"},
        "decrypt": False,
        "facts": {"migration": "compatible", "tokens": "both", "switched": True, "writes_possible": True, "restorable": False, "target": "r1"},
        "next": {},
    }


def test_what_a_person_does_where_a_restore_is_not_by_itself() -> None:
    def asked(doors: dict[str, str], *, identity: bool) -> tuple[str, str]:
        backup = {"name": "r-drained", "manifest": "/b/r", "run_id": "r", "since": {"p1": "22:10"}, "left": False}
        found = answer(RUN, compatible=False, reversible=False, backup=backup, doors=doors, identity=identity)
        return found["scope"], found["next"].get("en", "")

    assert asked({"p1": "22:10"}, identity=True) == ("restore", "")
    scope, text = asked({"p1": "22:10"}, identity=False)
    assert (scope, "the key that opens the backup r-drained, and run rollback.yml" in text) == ("needs_human", True)
    scope, text = asked({"p1": ""}, identity=True)
    assert (scope, "-e restore_name=r-drained -e restore_swap=true names the tables" in text) == ("needs_human", True)


def test_a_backup_of_the_whole_cluster_is_restored_by_a_person() -> None:
    """With pgBackRest there is no key at hand that could let the engine restore (roles/rollback says so), and the command is named."""
    command = "pgbackrest --stanza=main --set=20261126-073751F --type=name --target=lastro-r-1 --pg1-path=NEW_DIRECTORY restore"
    behind_the_door = {"name": "r-drained", "manifest": "", "run_id": "r", "since": {"p1": "22:10"}, "left": False, "restore_command": command}
    found = answer(RUN, compatible=False, reversible=False, backup=behind_the_door, doors={"p1": "22:10"}, identity=False)
    assert (found["scope"], command in found["next"]["en"], command in found["next"]["pt_BR"]) == ("needs_human", True, True)
    # Without a second backup the one of phase 4 is named.
    run = {**RUN, "evidence": {**RUN["evidence"], "backup": {"restore_command": command}}}
    found = answer(run, compatible=False, reversible=False)
    assert (found["scope"], command in found["next"]["en"]) == ("needs_human", True)
    assert answer(run, compatible=True, reversible=False)["next"] == {}


def test_filter_counts_what_earlier_runs_entered() -> None:
    assert answer({"phases": {"preflight": "failed"}, "evidence": {}}, reached=["protect", "preflight"])["facts"]["tokens"] == "both"
    cleared = answer({"phases": {"preflight": "failed"}, "evidence": {}}, reached=["preflight", "protect", "contract"])
    assert (cleared["facts"]["tokens"], cleared["decrypt"]) == ("cleared", True)


def test_a_human_asks_for_a_scope() -> None:
    asked = answer(RUN, scope="code_and_migration")
    assert (asked["scope"], asked["reason"]["en"], asked["facts"]["switched"]) == ("code_and_migration", "asked for by a human", True)
    with pytest.raises(AnsibleFilterError, match=r"deploy_rollback_scope is 'everything': choose one of nothing, code, migration"):
        answer(RUN, scope="everything")
