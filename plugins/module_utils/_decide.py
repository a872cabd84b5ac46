# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed run does next, decided from facts alone. PRIVATE to the collection.

The table of this function is docs/rollback-table.md, and each of its cells is a unit test.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._errors import Text
from ._journal import RunState

Scope = t.Literal["nothing", "code", "migration", "code_and_migration", "restore", "needs_human"]
Migration = t.Literal["none", "compatible", "reversible", "irreversible"]
Tokens = t.Literal["untouched", "both", "cleared"]

SCOPES: tuple[Scope, ...] = ("nothing", "code", "migration", "code_and_migration", "restore", "needs_human")
MIGRATIONS: tuple[Migration, ...] = ("none", "compatible", "reversible", "irreversible")
TOKENS: tuple[Tokens, ...] = ("untouched", "both", "cleared")


@dataclasses.dataclass(frozen=True)
class Facts:
    """The state of the world when a run failed.

    *migration* compares the database with what the last good release needs: compatible means that it runs on the newer
    schema, reversible that it does not but every revision has a working downgrade. *switched* says that any host serves
    (or may serve) another release than the last good one. *writes_possible* and *restorable* speak of the second
    backup, taken after the drain of a maintenance that is still on; it can be restored where the key that opens it is at hand.
    """

    migration: Migration = "none"
    tokens: Tokens = "untouched"
    switched: bool = False
    writes_possible: bool = True
    restorable: bool = False
    target: str = ""


@dataclasses.dataclass(frozen=True)
class Decision:
    """What to do (*scope*), whether tokens are decrypted first, and why, in words."""

    scope: Scope
    reason: Text
    decrypt: bool = False


@dataclasses.dataclass(frozen=True)
class Backup:
    """The second backup of a run, as ``_journal.second_backup`` has it; *doors* says since when each proxy shuts users out now."""

    name: str = ""
    since: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    left: bool = False
    doors: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    identity: bool = False
    writers: bool = False

    @property
    def kept_out(self) -> bool:
        """Whether nobody can have written since: each door is the one that was shut before the backup, and nothing writes behind it."""
        shut = bool(self.since) and all(moment and self.doors.get(host) == moment for host, moment in self.since.items())
        return shut and not self.left and not self.writers


_REASONS: dict[str, Text] = {
    "nothing": Text("nothing that the last good release would notice was changed", "nada que a última versão boa perceberia foi mudado"),
    "schema_stays": Text("the old release still serves; the schema stays (compatible)", "a versão antiga continua no ar; o esquema fica (compatível)"),
    "code": Text("the last good release runs on this schema", "a última versão boa funciona com este esquema"),
    "code_compatible": Text("schema stays (compatible)", "o esquema fica (compatível)"),
    "migration": Text(
        "the old release still serves but does not fit the new schema; every revision has a downgrade",
        "a versão antiga continua no ar mas não aceita o novo esquema; toda revisão tem downgrade",
    ),
    "both": Text(
        "the old release does not fit the new schema; every revision has a downgrade", "a versão antiga não aceita o novo esquema; toda revisão tem downgrade"
    ),
    "restore": Text(
        "a revision cannot be taken back, and nobody wrote since the backup under maintenance",
        "uma revisão não pode ser desfeita, e ninguém gravou desde o backup em manutenção",
    ),
    "lossy": Text(
        "a revision cannot be taken back, and a restore would lose what was written since the backup",
        "uma revisão não pode ser desfeita, e restaurar perderia o que foi gravado desde o backup",
    ),
    "no_backup": Text(
        "a revision cannot be taken back, and there is no backup that could be restored by itself: none was taken under maintenance, or its key is not at hand",
        "uma revisão não pode ser desfeita, e não há backup que possa ser restaurado sozinho: nenhum foi feito em manutenção, ou a chave dele não está à mão",
    ),
    "no_target": Text("there is no good release to go back to", "não há versão boa para a qual voltar"),
}


ASKED = Text("asked for by a human", "pedido por uma pessoa")

_NEXT: dict[str, Text] = {
    "cluster": Text(
        "pgBackRest has the whole cluster of that moment. As the account that runs PostgreSQL, into an empty directory: {0}. Start a server on it on another "
        "port, take what is needed from there, or let it take the live one's place once you know what was written since. docs/operations.md has the steps.",
        "O pgBackRest tem o cluster inteiro daquele momento. Na conta que roda o PostgreSQL, em um diretório vazio: {0}. Inicie nele um servidor em outra "
        "porta, pegue dali o necessário, ou troque-o pelo atual quando souber o que foi gravado desde então. Os passos estão em docs/operations.md.",
    ),
    "identity": Text(
        "The door stays shut. Give deploy_backup.identity, the key that opens the backup {0}, and run rollback.yml: it restores that backup.",
        "A porta continua fechada. Informe deploy_backup.identity, a chave que abre o backup {0}, e execute rollback.yml: ele restaura esse backup.",
    ),
    "lossy": Text(
        "restore.yml --check -e restore_name={0} -e restore_swap=true names the tables that were written to since. If that may go: rollback.yml with "
        "-e deploy_rollback_scope=restore -e deploy_accept_loss=true. Otherwise land a release that lives with the schema.",
        "restore.yml --check -e restore_name={0} -e restore_swap=true indica as tabelas gravadas desde então. Se isso pode ser perdido: rollback.yml com "
        "-e deploy_rollback_scope=restore -e deploy_accept_loss=true. Senão, faça o deploy de uma versão que aceite o esquema.",
    ),
}


def decide(facts: Facts) -> Decision:
    """The one thing to do after a failure."""
    decrypt = facts.tokens == "cleared"
    untouched = facts.migration == "none" and not facts.switched and not decrypt
    if untouched:
        return Decision("nothing", _REASONS["nothing"])
    if not facts.target and _needs_target(facts):
        return Decision("needs_human", _REASONS["no_target"])
    if facts.migration == "irreversible":
        return _irreversible(facts)
    if facts.migration == "reversible":
        scope: Scope = "code_and_migration" if facts.switched else "migration"
        return Decision(scope, _REASONS["both" if facts.switched else "migration"], decrypt)
    if facts.switched or decrypt:
        return Decision("code", _REASONS["code" if facts.migration == "none" else "code_compatible"], decrypt)
    return Decision("nothing", _REASONS["schema_stays"])


def _needs_target(facts: Facts) -> bool:
    """Whether going back means nothing without a release that wants it: other code, an older schema, clear text. A backup stands alone."""
    return facts.switched or facts.migration == "reversible" or (facts.tokens == "cleared" and facts.migration != "irreversible")


def _irreversible(facts: Facts) -> Decision:
    if not facts.restorable:
        return Decision("needs_human", _REASONS["no_backup"])
    if facts.writes_possible:
        return Decision("needs_human", _REASONS["lossy"])
    return Decision("restore", _REASONS["restore"])


def facts_of(
    states: t.Sequence[RunState],
    *,
    compatible: bool,
    reversible: bool,
    migrated: bool,
    target: str,
    serving: t.Collection[str],
    between: t.Collection[str] = (),
    backup: Backup | None = None,
) -> Facts:
    """Facts for ``decide`` from the failed run and the unfinished ones before it.

    *migrated*: the database's revisions differ from those of *target*, the last good release; *compatible* and
    *reversible* say what was read of the revisions *between* the two, which a rehearsal may have seen otherwise; *serving* are the releases that
    answered just now; *backup* is the second backup, where there is one.
    """
    rehearsals = [state.evidence.get("rehearse", {}) for state in states]
    compatible = compatible and not any(set(between) & set(one.get("breaking", ())) for one in rehearsals)
    reversible = reversible and not any(set(between) & set(one.get("irreversible", ())) for one in rehearsals)
    protected = any(state.phases.get("protect", "skipped") != "skipped" for state in states)
    cleared = protected and any(_may_have_cleared(state) for state in states)
    migration: Migration = "none"
    if migrated:
        migration = "compatible" if compatible else "reversible" if reversible else "irreversible"
    return Facts(
        migration=migration,
        tokens="cleared" if cleared else "both" if protected else "untouched",
        switched=any(release != target for release in serving),
        writes_possible=backup is None or not backup.kept_out,
        restorable=backup is not None and backup.identity,
        target=target,
    )


def next_step(decision: Decision, facts: Facts, backup: Backup | None, command: str = "") -> Text | None:
    """What a person does where the decision is theirs; None where the reason says it. *command* is how pgBackRest restores the run's backup."""
    if decision.scope != "needs_human" or facts.migration != "irreversible" or not (backup or command):
        return None
    if command or backup is None:
        return Text(*(one.format(command) for one in _NEXT["cluster"]))
    text = _NEXT["identity" if backup.kept_out and not backup.identity else "lossy"]
    return Text(*(one.format(backup.name) for one in text))


def _may_have_cleared(state: RunState) -> bool:
    """Whether clear text may be gone: a contract that did not come to its end has no evidence, and may have begun with it."""
    return state.phases.get("contract", "skipped") not in ("ok", "skipped") or bool(state.evidence.get("contract", {}).get("cleared"))


def outcome(state: RunState) -> str:
    """How a run ends, from its journal; "unfinished" where the journal does not say (check mode)."""
    if state.decision:
        return _outcome_of_rollback(state)
    if not state.sound:
        return "needs_human"
    if state.evidence.get("preflight", {}).get("nothing_to_do"):
        return "nothing_to_do"
    return "deployed" if state.phases.get("contract") in ("ok", "skipped") else "unfinished"


def _outcome_of_rollback(state: RunState) -> str:
    scope, facts = state.decision["scope"], state.decision.get("facts", {})
    if scope == "needs_human":
        return "needs_human"
    if state.phases.get("rollback") != "ok":
        return "rollback_incomplete"
    untouched = facts.get("migration") == "none" and not facts.get("switched") and facts.get("tokens", "untouched") == "untouched"
    return "failed_nothing_changed" if scope == "nothing" and untouched else "rolled_back"


__all__ = ("ASKED", "MIGRATIONS", "SCOPES", "TOKENS", "Backup", "Decision", "Facts", "Scope", "decide", "facts_of", "next_step", "outcome")
