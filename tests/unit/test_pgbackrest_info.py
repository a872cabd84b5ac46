# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgBackRest's answers mean and what a run still has to do; the answers are those of version 2.45."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _pgbackrest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._pgbackrest import Server, check
from ansible_collections.lastro.deploy.plugins.module_utils._pgbackrest_info import Backup, file_done, parse, plan, verify_problems

FULL, INCREMENTAL = "20261126-073054F", "20261126-073054F_20261126-080000I"
DONE: dict[str, t.Any] = {"restore_point": "lastro-r1-1795678256", "restore_lsn": "0/4000090", "verified": "read"}
SERVER = Server("15.18", "77", standby=False, archive_mode="on", may_name_points=True, failed_segment="", archiver_fails=False, role="app")


def backup(label: str = FULL, *, repo: int = 1, stop: int = 1795678256, **annotation: str) -> dict[str, t.Any]:
    return {
        **({"annotation": annotation} if annotation else {}),
        "database": {"id": 1, "repo-key": repo},
        "error": False,
        "info": {"delta": 22993806, "repository": {"delta": 2812617, "size": 2812617}, "size": 22993806},
        "label": label,
        "lsn": {"start": "0/2000028", "stop": "0/3000088"},
        "reference": None if label.endswith("F") else [label.partition("_")[0]],
        "timestamp": {"start": stop - 2, "stop": stop},
        "type": "full" if label.endswith("F") else "incr",
    }


def info(*backups: dict[str, t.Any], code: int = 0, held: bool = False, repos: tuple[int, ...] = (1,)) -> str:
    repo = [{"cipher": "none" if key == 1 else "aes-256-cbc", "key": key, "status": {"code": code, "message": f"status {code}"}} for key in repos]
    database = [{"id": number, "repo-key": key, "system-id": system, "version": "15"} for key in repos for number, system in ((1, 76), (2, 77))]
    status = {"code": code, "lock": {"backup": {"held": held}}, "message": "ok"}
    return json.dumps([{"name": "main", "backup": list(backups), "db": database, "repo": repo, "cipher": "none", "status": status}])


def steps(*backups: dict[str, t.Any], kind: str = "auto", verify: bool = True) -> tuple[str, tuple[str, ...]]:
    found = plan(parse(info(*backups), "main", None), run_id="r1", kind=kind, verify=verify)
    return found.kind, found.steps


def test_a_stanza_of_two_repositories() -> None:
    text = info(backup(), backup(INCREMENTAL, stop=1795679999, run_id="r1"), backup(repo=2), repos=(2, 1))
    first, second = parse(text, "main", None), parse(text, "main", 2)
    assert (first.repo, first.system_id, first.encrypted, [one.label for one in first.backups]) == (1, "77", False, [FULL, INCREMENTAL])
    assert (second.repo, second.encrypted, len(second.backups)) == (2, True, 1)
    newest = first.of_run("r1")
    assert newest and (newest.needs, newest.size, newest.raw_size) == ((FULL,), 2812617, 22993806)
    assert first.of_run("r2") is None


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", "null", '[{"name": "main"}]', info(repos=(3,))])
def test_an_answer_without_the_stanza(text: str) -> None:
    with pytest.raises(LastroError, match="no stanza main in repository 1"):
        parse(text, "main", 1)


def test_a_run_does_what_it_has_not_done() -> None:
    everything = ("backup", "restore_point", "verify")
    assert steps() == steps(kind="diff") == ("full", everything)
    assert steps(backup(run_id="r0", **DONE)) == ("incr", everything)
    assert steps(backup(), kind="diff", verify=False) == ("diff", ("backup", "restore_point"))
    assert steps(backup(), backup(INCREMENTAL, run_id="r1")) == ("", ("restore_point", "verify"))
    assert steps(backup(run_id="r1", restore_point="p", restore_lsn="0/1")) == ("", ("verify",))
    assert steps(backup(run_id="r1", restore_point="p", restore_lsn="0/1"), verify=False) == ("", ())
    assert steps(backup(run_id="r1", **DONE)) == ("", ())


SAID = """stanza: main
status: {status}
  archiveId: 15-1, total WAL checked: {checked}, total valid WAL: 3
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: 20261126-073054F, status: {full}, total files checked: 965, total valid files: 964
    missing: 0, checksum invalid: 1, size invalid: 0, other: 0
  backup: 20261126-073054F_20261126-080000I, status: {incremental}, total files checked: 5, total valid files: 5
"""


def said(*, checked: int = 3, full: str = "valid", incremental: str = "valid") -> tuple[str, list[Backup]]:
    backups = parse(info(backup(), backup(INCREMENTAL, stop=1795679999)), "main", None).backups
    return SAID.format(status="ok", checked=checked, full=full, incremental=incremental), list(backups)


def test_only_a_line_that_says_valid_is_a_proof() -> None:
    text, (full, incremental) = said()
    assert verify_problems(text, full) == verify_problems(text, incremental) == ([], [])
    assert verify_problems("", full) == ([f"backup {FULL} is not mentioned"], [])
    text, *_backups = said(full="invalid")
    assert verify_problems(text, incremental) == ([f"backup {FULL} is invalid"], [])
    text, *_backups = said(incremental="in-progress")
    assert verify_problems(text, full) == ([], [f"backup {INCREMENTAL} is in-progress"])
    text, *_backups = said(checked=4)
    assert verify_problems(text, full) == (["of 4 WAL segments in the archive 15-1 3 are valid"], [])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("P01 DETAIL: backup file /d/base/5/1255 (768KB, 3.42%) checksum ab7f", (768 * 1024, 3.42)),
        ("P01 DETAIL: backup file host:/d/base (1)/5 (1.5GB, 100.00%) checksum ab7f", (int(1.5 * 1024**3), 100.0)),
        ("P01 DETAIL: backup file /d/PG_VERSION (bundle 1/8192, 3B, 0.01%) checksum ab7f", (3, 0.01)),
        ("P00   INFO: new backup label = 20261126-073054F", None),
        ("P01 DETAIL: match file from prior backup /d/base/5/1 (8KB, 9.00%)", None),
    ],
)
def test_progress(line: str, found: tuple[int, float] | None) -> None:
    assert file_done(line) == found


@pytest.mark.parametrize(
    ("stanza", "server", "problem"),
    [
        ({"code": 1}, {}, "is not usable in repository 1: status 1"),
        ({}, {"system_id": "5"}, "system identifier 77, the database is in 5"),
        ({}, {"standby": True}, "is a standby"),
        ({}, {"archive_mode": "off"}, "archive_mode is off"),
        ({}, {"may_name_points": False}, "The role app may not call pg_create_restore_point"),
        ({"held": True}, {}, "Another pgBackRest process holds the lock"),
    ],
)
def test_what_stops_a_backup(stanza: dict[str, t.Any], server: dict[str, t.Any], problem: str) -> None:
    found = parse(info(**stanza), "main", None)
    wanted = plan(found, run_id="r1", kind="auto", verify=True)
    check(parse(info(code=2), "main", None), SERVER, wanted)
    with pytest.raises(LastroError, match=problem) as raised:
        check(found, _pgbackrest.dataclasses.replace(SERVER, **server), wanted)
    assert raised.value.remedy.pt_BR
