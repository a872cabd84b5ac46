# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New lines of errors in logs: what counts, from where on, and what they mean."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _log_errors
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

PATTERN = _log_errors.compiled(_log_errors.PATTERN)
OLD, NEW = "2026-11-21 ERROR in app: old\n", "2026-11-21 [7] [CRITICAL] new\n"


@pytest.mark.parametrize("line", ["ERROR in app", "2026-11-21 10:00 [12] [ERROR] x", "level=FATAL msg=x", "CRITICAL:root:x", '{"level":"ERROR"}'])
def test_lines_that_count(line: str) -> None:
    assert PATTERN.search(line)


@pytest.mark.parametrize("line", ["error", "INFO no ERRORS", "TERROR", "GET /ERROR_PAGE 200", ""])
def test_lines_that_do_not(line: str) -> None:
    assert not PATTERN.search(line)


def test_only_what_came_later_counts(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    assert _log_errors.position(log) == {}
    assert _log_errors.count_after(log, {}, PATTERN) == 0
    log.write_text(OLD, encoding="utf-8")
    # There was no log at first: all of it is new.
    assert _log_errors.count_after(log, {}, PATTERN) == 1
    start = _log_errors.position(log)
    assert _log_errors.count_after(log, start, PATTERN) == 0
    with log.open("ab") as stream:
        stream.write(f"{NEW}INFO fine\n\xff ERROR \n".encode("latin-1"))
    assert _log_errors.count_after(log, start, PATTERN) == 2


def test_a_log_that_was_turned_over(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text(OLD, encoding="utf-8")
    start = _log_errors.position(log)
    with log.open("a", encoding="utf-8") as stream:
        stream.write(NEW)
    log.rename(tmp_path / "web.log.1")
    log.write_text(NEW + NEW, encoding="utf-8")
    assert _log_errors.count_after(log, start, PATTERN) == 3
    # Turned over twice: what is left counts.
    (tmp_path / "web.log.1").rename(tmp_path / "web.log.2")
    (tmp_path / "web.log.1").write_text(OLD, encoding="utf-8")
    assert _log_errors.count_after(log, start, PATTERN) == 2
    log.unlink()
    assert _log_errors.count_after(log, start, PATTERN) == 0


def gate(**other: object) -> dict[str, t.Any]:
    return {"metric": "log_errors", "op": "<=", "value": 2, **other}


OTHERS = [{"metric": "error_rate", "op": "<=", "value": "1%"}]


def test_a_count_within_the_limit() -> None:
    evidence = _log_errors.judged(2, [*OTHERS, gate()], "app1", 0)
    assert evidence["log_errors"] == {"app1": 2}
    assert set(evidence) == {"log_errors", "gates"}
    (judged,) = evidence["gates"]
    assert (judged["name"], judged["verdict"], judged["worst"]) == ("log_errors app1", "pass", 2)


@pytest.mark.parametrize(("on_breach", "action"), [("rollback", "rollback"), ("warn", "warn"), ("consider", "consider")])
def test_a_count_beyond_it(on_breach: str, action: str) -> None:
    evidence = _log_errors.judged(3, [gate(name="log", on_breach=on_breach, **{"for": "10m"}), *OTHERS], "app2", 0)
    assert (evidence["verdict"], evidence["action"], evidence["gates"][0]["name"]) == ("fail", action, "log app2")
    assert evidence["reason"]["en"] == "app2: 3 new error lines in the application's log since the switch (promised <= 2)"
    assert evidence["reason"]["pt_BR"].startswith("app2: 3 novas linhas de erro")


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(LastroError, match=r"error_pattern is no regular expression: .*deploy_watch") as error:
        _log_errors.compiled("(")
    assert "error_pattern" in error.value.remedy.pt_BR
    assert _log_errors.compiled("^E").flags == re.compile("^E").flags
