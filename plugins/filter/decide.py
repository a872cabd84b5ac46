# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision after a failure as a filter, so that a playbook shows and follows the same one."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.lastro.deploy.plugins.module_utils import _decide, _journal

DOCUMENTATION = r"""
name: decide
short_description: What a failed run does next
description:
  - Takes the facts of a run that failed and returns the one thing to do about it. Pure; docs/rollback-table.md is its table.
options:
  _input:
    description: The run as the module M(lastro.deploy.journal) returns it in RV(lastro.deploy.journal#module:run).
    type: dict
    required: true
  target:
    description: The id of the last good release; empty where there is none.
    type: str
    required: true
  serving:
    description: The releases that the hosts serve now.
    type: list
    elements: str
    required: true
  migrated:
    description: Whether the database's revisions differ from those that the last good release was verified with.
    type: bool
    required: true
  compatible:
    description: Whether the last good release runs on the database as it is.
    type: bool
    required: true
  reversible:
    description: Whether every revision in between has a working downgrade.
    type: bool
    required: true
  reached:
    description: Phases that earlier unfinished runs entered.
    type: list
    elements: str
    default: []
  between:
    description: The revisions between that release and the database; a rehearsal in this run may have seen more of them than was read.
    type: list
    elements: str
    default: []
  backup:
    description: The second backup, as the module returns it in RV(lastro.deploy.journal#module:second_backup); empty where there is none.
    type: dict
    default: {}
  doors:
    description: Since when each proxy host shuts users out now, by host.
    type: dict
    default: {}
  identity:
    description: Whether the key that opens the backup is at hand, or none is needed.
    type: bool
    default: false
  writers:
    description: Whether processes run that no door keeps from writing, such as workers.
    type: bool
    default: false
  scope:
    description: The scope that a human asks for instead.
    type: str
    default: ''
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ journal.run | lastro.deploy.decide(target='r2-3f9c2e1', serving=['r3-0a1b2c3'], migrated=false, compatible=true, reversible=true) }}"
"""

RETURN = r"""
_value:
  description: C(scope), C(reason) in both languages, C(decrypt), the C(facts) behind them, and C(next), what a person does.
  type: dict
"""


def decide(
    run: dict[str, t.Any],
    *,
    target: str,
    serving: list[str],
    migrated: bool,
    compatible: bool,
    reversible: bool,
    reached: list[str] | None = None,
    scope: str = "",
    between: list[str] | None = None,
    backup: dict[str, t.Any] | None = None,
    doors: dict[str, str] | None = None,
    identity: bool = False,
    writers: bool = False,
) -> dict[str, t.Any]:
    """The decision with its facts, as plain data. Raises AnsibleFilterError for a scope that there is not."""
    if scope and scope not in _decide.SCOPES:
        raise AnsibleFilterError(f"deploy_rollback_scope is {scope!r}: choose one of {', '.join(_decide.SCOPES)}.")
    phases = {**dict.fromkeys(reached or [], "started"), **run["phases"]}
    state = _journal.RunState(phases=phases, evidence=run["evidence"])
    taken = _decide.Backup(backup["name"], backup["since"], backup["left"], doors or {}, identity=identity, writers=writers) if backup else None
    facts = _decide.facts_of(
        [state], compatible=compatible, reversible=reversible, migrated=migrated, target=target, serving=serving, between=between or (), backup=taken
    )
    decision = _decide.decide(facts)
    if scope:
        decision = _decide.Decision(scope, _decide.ASKED, decision.decrypt)
    command = (backup or run["evidence"].get("backup", {})).get("restore_command", "")
    following = _decide.next_step(decision, facts, taken, command)
    return {
        "scope": decision.scope,
        "reason": decision.reason._asdict(),
        "decrypt": decision.decrypt,
        "facts": dataclasses.asdict(facts),
        "next": following._asdict() if following else {},
    }


def outcome(run: dict[str, t.Any]) -> str:
    """How the run ends, one of the collection's outcomes."""
    fields = {field.name for field in dataclasses.fields(_journal.RunState)}
    values = {name: value for name, value in run.items() if name in fields}
    return _decide.outcome(_journal.RunState(**{**values, "requests": tuple(values.get("requests", ()))}))


class FilterModule:
    """The collection's filters."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Names and functions."""
        return {"decide": decide, "outcome": outcome}
