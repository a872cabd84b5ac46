# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must change for a key: a pure decision from its generations and from what the sink holds. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

from ._api_key_table import Row
from ._errors import LastroError, Text

State = t.Literal["present", "rotated", "revoked"]


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the module was asked for. *older_than* and *grace* in seconds; None for what was not given."""

    name: str
    state: State
    generation: int | None
    older_than: float | None
    salt_id: str
    grace: float


@dataclasses.dataclass(frozen=True)
class Held:
    """What the sink holds: *generation* is the one of its key (None: of none that the table knows), *there* whether there is a key at all."""

    there: bool = False
    generation: int | None = None


@dataclasses.dataclass(frozen=True)
class Seen:
    """The table's side (*rows* oldest first, *unique* its constraint) and the sink's; *file* is None where there is no sink."""

    rows: tuple[Row, ...]
    unique: bool
    file: Held | None
    pending: Held = Held()

    @property
    def current(self) -> Row | None:
        """The newest generation."""
        return self.rows[-1] if self.rows else None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done.

    *deliver* says that the pending key takes the file's place, before all else, *withdraw* that it is of no use; *create* is the generation to make,
    *revoke* which generations are to be marked as revoked, *constrain* that the constraint is to be added.
    """

    create: int | None = None
    deliver: bool = False
    withdraw: bool = False
    revoke: tuple[int, ...] = ()
    constrain: bool = False

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return self != Plan()


def decide(wish: Wish, seen: Seen) -> Plan:
    """The plan. Raises LastroError where the wish cannot be met: a generation that does not follow, or a key that is lost."""
    if wish.state == "revoked":
        return Plan(revoke=_to_revoke(wish, seen))
    create = _due(wish, seen)
    at_once = create is not None and not wish.grace
    revoke = tuple(row.generation for row in seen.rows if row.revoked_at is None and (row.over or at_once))
    current = seen.current
    # A run died between the commit and the delivery.
    waits = bool(current and seen.pending.there and seen.pending.generation == current.generation)
    plan = Plan(create=create, deliver=waits, revoke=revoke, constrain=not seen.unique)
    if create is not None and wish.generation is None and not waits and _is_foreign(wish, seen):
        raise _foreign(wish, create)
    if create is not None or waits or seen.file is None or current is None:
        return plan
    if seen.file.generation != current.generation:
        raise _lost(wish, seen)
    # A run died before the commit: nobody knows that key.
    return dataclasses.replace(plan, withdraw=seen.pending.there)


def _due(wish: Wish, seen: Seen) -> int | None:
    current = seen.current
    following = current.generation + 1 if current else 1
    if wish.state == "rotated" and wish.generation is not None:
        return _asked(wish.generation, current, following)
    if current is None or not current.valid:
        return following
    return following if wish.older_than is not None and current.age > wish.older_than else None


def _asked(generation: int, current: Row | None, following: int) -> int | None:
    if current and generation < following:
        if not current.valid:
            raise LastroError(
                f"generation is {generation}, but the newest one, {current.generation}, is no longer valid.",
                remedy=Text(en=f"Ask for generation {following}.", pt_BR=f"Peça a geração {following}."),
            )
        return None
    if generation != following:
        raise LastroError(
            f"generation is {generation}, but {following} is the next one.",
            remedy=Text(en=f"Ask for generation {following}.", pt_BR=f"Peça a geração {following}."),
        )
    return following


def _is_foreign(wish: Wish, seen: Seen) -> bool:
    """Whether the file holds a key that is none of this name, as far as the salt at hand can tell."""
    return bool(seen.file and seen.file.there and seen.file.generation is None and all(row.salt_id == wish.salt_id for row in seen.rows))


def _foreign(wish: Wish, following: int) -> LastroError:
    return LastroError(
        f"The sink holds a key that is none of {wish.name}; it is not overwritten.",
        remedy=Text(
            en=f"Name another file, or remove this one; or, if it is to be replaced, ask for state rotated with generation {following}.",
            pt_BR=f"Indique outro arquivo ou remova este; ou, se ele deve ser substituído, peça state rotated com generation {following}.",
        ),
    )


def _to_revoke(wish: Wish, seen: Seen) -> tuple[int, ...]:
    known = {row.generation for row in seen.rows}
    if wish.generation is not None and wish.generation not in known:
        raise LastroError(
            f"{wish.name} has no generation {wish.generation}.",
            remedy=Text(en="Look with api_key_info which there are.", pt_BR="Veja com api_key_info quais existem."),
        )
    return tuple(row.generation for row in seen.rows if row.revoked_at is None and wish.generation in (None, row.generation))


def _lost(wish: Wish, seen: Seen) -> LastroError:
    current = t.cast("Row", seen.current)
    held = t.cast("Held", seen.file)
    if current.salt_id != wish.salt_id:
        what = f"was stored under the salt {current.salt_id}, so it cannot be compared under {wish.salt_id}"
    elif not held.there:
        what = "is in the table, but not in the sink, and only its hash is known"
    else:
        holds = f"that of generation {held.generation}" if held.generation is not None else "none that the table knows"
        what = f"is not the key in the sink, which is {holds}"
    return LastroError(
        f"Generation {current.generation} of {wish.name} {what}.",
        remedy=Text(
            en=f"Name the sink that holds its key and the salt it was made with; or make a new key with state rotated, generation {current.generation + 1}.",
            pt_BR=f"Indique o destino com a chave e o sal usado com ela; ou gere uma nova chave com state rotated, generation {current.generation + 1}.",
        ),
    )


__all__ = ("Held", "Plan", "Seen", "State", "Wish", "decide")
