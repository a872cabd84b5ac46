# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small questions to PostgreSQL in one round trip, each in a subtransaction of its own that is rolled back. PRIVATE to the collection.

So one question's error is that question's alone, its locks are given back before the next one, and nothing stays.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

LOCK_NOT_AVAILABLE = "55P03"

# A block with an exception clause is a subtransaction. PL/pgSQL's EXECUTE runs no COMMIT. The raise of LAS01 is what rolls back; variables of the
# block outlive it. Where a lock could not be had, the rest of its unit (the same table) does not wait for it again.
_RUN = """
DO $lastro$
DECLARE
  unit jsonb; item jsonb; value text; said text[]; answers json[] := '{}'; state text; message text; wanted int := 0;
BEGIN
  FOR unit IN SELECT x FROM jsonb_array_elements(current_setting('lastro.work')::jsonb) AS x LOOP
    wanted := wanted + jsonb_array_length(unit->'items');
    BEGIN
      FOR n IN 0 .. jsonb_array_length(unit->'before') - 1 LOOP EXECUTE unit->'before'->>n; END LOOP;
      FOR place IN 0 .. jsonb_array_length(unit->'items') - 1 LOOP
        item := unit->'items'->place;
        BEGIN
          said := '{}';
          FOR n IN 0 .. jsonb_array_length(item->'run') - 1 LOOP EXECUTE item->'run'->>n; END LOOP;
          FOR n IN 0 .. jsonb_array_length(item->'ask') - 1 LOOP
            IF n > 0 THEN
              EXIT WHEN position(item->>'until' IN value) > 0;
              PERFORM set_config('lastro.said', coalesce(value, ''), true);
            END IF;
            EXECUTE item->'ask'->>n INTO value;
            said := array_append(said, value);
          END LOOP;
          RAISE EXCEPTION SQLSTATE 'LAS01';
        EXCEPTION
          WHEN SQLSTATE 'LAS01' THEN
            answers := array_append(answers, json_build_object('said', said));
          WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
            answers := array_append(answers, json_build_object('state', state, 'message', message));
            IF state = '55P03' THEN RAISE; END IF;
        END;
      END LOOP;
      RAISE EXCEPTION SQLSTATE 'LAS01';
    EXCEPTION
      WHEN SQLSTATE 'LAS01' THEN NULL;
      WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
        WHILE cardinality(answers) < wanted LOOP
          answers := array_append(answers, json_build_object('state', state, 'message', message));
        END LOOP;
    END;
  END LOOP;
  PERFORM set_config('lastro.answers', array_to_json(answers)::text, true);
END $lastro$;
SELECT json_array_elements(current_setting('lastro.answers')::json)
"""


@dataclasses.dataclass(frozen=True)
class Item:
    """One question: statements that are run, then queries of one text value each. A query may read the answer before it as lastro.said.

    No further query is asked once one has said the text *until*.
    """

    run: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    until: str | None = None


@dataclasses.dataclass(frozen=True)
class Unit:
    """Questions that share what is run *before* them; for its end that is rolled back too."""

    items: tuple[Item, ...]
    before: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an item's queries *said*, one text each; or PostgreSQL's error as its *state* and *message*."""

    said: tuple[str, ...] = ()
    state: str = ""
    message: str = ""


def ask(connection: PostgresConnection, units: t.Sequence[Unit], *, read_only: bool = True) -> list[Answer]:
    """An answer for each item, in their order. *connection* is in autocommit mode. Raises psycopg2.Error where the whole of it is cut off."""
    if not units:
        return []
    work = json.dumps([{"before": unit.before, "items": [vars(item) for item in unit.items]} for unit in units])
    begin = "BEGIN READ ONLY" if read_only else "BEGIN"
    with connection.cursor() as cursor:
        cursor.execute(f"ROLLBACK; {begin}; SELECT set_config('lastro.work', %s, true);" + _RUN.replace("%", "%%"), (work,))
        return [Answer(tuple(one.get("said") or ()), one.get("state", ""), one.get("message", "")) for (one,) in cursor]


def reason(error: Exception) -> str:
    """PostgreSQL's message in one line, without position and context."""
    message = getattr(getattr(error, "diag", None), "message_primary", None)
    return str(message or str(error).split("\n", 1)[0]).strip()


__all__ = ("LOCK_NOT_AVAILABLE", "Answer", "Item", "Unit", "ask", "reason")
