# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports on all indexes of a database: what is broken, needless, unused, missing or slow. Read-only. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from . import _index_validation_report_sql as queries
from ._errors import LastroError, Text
from ._index_validation_contract import Expected, is_one_statement, parameter_count, quoted
from ._index_validation_findings import IndexFinding, leftover_of
from ._index_validation_plan import GENERIC, Reading, explained
from ._index_validation_server import Answer, Item, Unit, ask
from ._postgres import ConnectionSettings, connect

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

    from ._index_validation_sql import Server

REPORTS = ("invalid", "duplicates", "unused", "missing_fk", "bloat", "slow")
Row = dict[str, t.Any]
NOTHING = Text("", "")


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """From where on a report speaks. Sizes are in bytes, times in milliseconds."""

    unused_days: float = 7.0
    bloat_percent: float = 50.0
    bloat_min_bytes: int = 10 * 1024 * 1024
    slow_mean_ms: float = 100.0
    limit: int = 20


@dataclasses.dataclass(frozen=True)
class Report:
    """One report: what was found as *rows* and as *findings*, and a *note* on how, or why not."""

    name: str
    rows: tuple[Row, ...] = ()
    findings: tuple[IndexFinding, ...] = ()
    note: Text = NOTHING
    facts: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    def as_result(self) -> dict[str, t.Any]:
        """The report as a return value."""
        return {"found": list(self.rows), "note": self.note._asdict(), **self.facts}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the reports are made from."""

    settings: ConnectionSettings
    server: Server
    thresholds: Thresholds
    standbys: tuple[str, ...]


def threshold_options() -> dict[str, t.Any]:
    """The options of C(thresholds)."""
    kinds = {"limit": "int", "bloat_min_bytes": "int"}
    return {field.name: {"type": kinds.get(field.name, "float"), "default": field.default} for field in dataclasses.fields(Thresholds)}


def read(connection: PostgresConnection, names: t.Sequence[str], asked: Asked) -> list[Report]:
    """The reports of these *names*, in one round trip, and one more for the plans of slow statements. An error is its own report's alone."""
    items = [(name, item) for name in names for item in _items(name, asked)]
    answers = ask(connection, [Unit((item,)) for _name, item in items])
    by_name: dict[str, list[Answer]] = {name: [] for name in names}
    for (name, _item), answer in zip(items, answers):  # noqa: B905
        by_name[name].append(answer)
    return [_made(connection, name, by_name[name], asked) for name in names]


def _items(name: str, asked: Asked) -> list[Item]:
    limits = asked.thresholds
    if name == "bloat":
        numbers = {"min_bytes": int(limits.bloat_min_bytes), "limit": int(limits.limit)}
        exact = Item(run=(queries.with_extension("pgstattuple"),), ask=(queries.BLOAT_EXACT.format(**numbers),))
        return [exact, Item(ask=(queries.BLOAT_ESTIMATE.format(**numbers),))]
    if name == "slow":
        statement = queries.slow(asked.server.version, limits.slow_mean_ms, limits.limit)
        return [Item(run=(queries.with_extension("pg_stat_statements"),), ask=(statement,))]
    plain = {"invalid": queries.INVALID, "duplicates": queries.DUPLICATES, "unused": queries.UNUSED, "missing_fk": queries.MISSING_FK}
    return [Item(ask=(plain[name],))]


def _made(connection: PostgresConnection, name: str, answers: t.Sequence[Answer], asked: Asked) -> Report:
    if name == "bloat":
        return _bloat(answers[0], answers[1], asked)
    answer = answers[0]
    if answer.state:
        return Report(name, note=_refused(name, answer))
    found = json.loads(answer.said[0])
    if name == "slow":
        return _slow(connection, found)
    if name == "unused":
        return _unused(found, asked)
    finding = {"invalid": _invalid, "duplicates": _duplicate, "missing_fk": _missing_fk}[name]
    return Report(name, tuple(found), tuple(finding(row) for row in found))


def _refused(name: str, answer: Answer) -> Text:
    if name == "slow":
        hint = "CREATE EXTENSION pg_stat_statements; GRANT pg_read_all_stats"
        return Text(f"no report: {answer.message} ({hint})", f"sem relatório: {answer.message} ({hint})")
    return Text(f"no report: {answer.message}", f"sem relatório: {answer.message}")


def _finding(about: str, kind: str, row: Row, words: Text, remedy: str) -> IndexFinding:
    return IndexFinding(about, kind, row.get("index") or row["constraint"], f"{row['schema']}.{row['table']}", "", "", words, remedy)


def _qualified(row: Row) -> str:
    return f"{quoted(row['schema'])}.{quoted(row['index'])}"


def _invalid(row: Row) -> IndexFinding:
    name, of = _qualified(row), leftover_of(row["index"])
    if row["building"]:
        words = Text(f"it is still being built: {row['building']}", f"ainda está sendo construído: {row['building']}")
        return _finding("invalid", "building", row, words, "SELECT phase, blocks_done, blocks_total FROM pg_stat_progress_create_index;")
    if row["partitioned"]:
        words = Text("a partition has no valid index of it", "uma partição não tem um índice válido dele")
        return _finding("invalid", "half_attached", row, words, f"-- make the index on each partition and attach it: ALTER INDEX {name} ATTACH PARTITION")
    if of:
        words = Text(f"left over by a REINDEX CONCURRENTLY of {of} that was broken off", f"sobra de um REINDEX CONCURRENTLY de {of} interrompido")
        return _finding("invalid", "leftover", row, words, f"DROP INDEX CONCURRENTLY {name};")
    if not row["live"]:
        words = Text("a DROP INDEX CONCURRENTLY was broken off", "um DROP INDEX CONCURRENTLY foi interrompido")
        return _finding("invalid", "not_live", row, words, f"DROP INDEX CONCURRENTLY {name};")
    if not row["ready"]:
        words = Text("building it was broken off early: new rows are not in it", "sua construção foi interrompida no início: linhas novas não estão nele")
        return _finding("invalid", "not_ready", row, words, f"REINDEX INDEX CONCURRENTLY {name};")
    words = Text("building it was broken off; queries do not use it", "sua construção foi interrompida; as consultas não o usam")
    return _finding("invalid", "invalid", row, words, f"REINDEX INDEX CONCURRENTLY {name};")


def _duplicate(row: Row) -> IndexFinding:
    other = row["covered_by"]
    words = Text(f"{other} has the same definition", f"{other} tem a mesma definição")
    if row["kind"] == "prefix":
        words = Text(f"{other} begins with the same columns", f"{other} começa com as mesmas colunas")
    return _finding("duplicates", row["kind"], row, words, f"DROP INDEX CONCURRENTLY {_qualified(row)};")


def _missing_fk(row: Row) -> IndexFinding:
    entry = Expected(row["schema"], row["table"], tuple(map(quoted, row["columns"])))
    words = Text(
        f"no index begins with the columns of this foreign key to {row['refers_to']}",
        f"nenhum índice começa com as colunas desta chave estrangeira para {row['refers_to']}",
    )
    return _finding("missing_fk", "missing_fk", row, words, f"{entry.create()};")


def _unused(found: Row, asked: Asked) -> Report:
    """Of the indexes that nobody reads here, those that no standby reads either; nothing is said of them before the counters are old enough."""
    age, rows = float(found["age_days"]), [row for row in found["rows"] if row["scans"] == 0]
    counters, unreachable = _standby_counters(asked)
    rows = [row for row in rows if not any(counter.get(f"{row['schema']}.{row['index']}", 0) for counter in counters)]
    names = ", ".join(unreachable)
    note = Text(
        f"statistics since {found['since']}, {age:.1f} days; counters of {1 + len(counters)} servers",
        f"estatísticas desde {found['since']}, {age:.1f} dias; contadores de {1 + len(counters)} servidores",
    )
    if unreachable:
        note = Text(f"{note.en}; no verdict, since {names} cannot be asked", f"{note.pt_BR}; sem veredito, pois {names} não responde")
    elif age < asked.thresholds.unused_days:
        note = Text(f"{note.en}: too young for a verdict", f"{note.pt_BR}: recentes demais para um veredito")
    decided = not unreachable and age >= asked.thresholds.unused_days
    words = Text(f"nobody has read it for {age:.0f} days", f"ninguém o lê há {age:.0f} dias")
    findings = [_finding("unused", "unused", row, words, f"DROP INDEX CONCURRENTLY {_qualified(row)};") for row in rows] if decided else []
    facts = {"since": found["since"], "age_days": round(age, 3), "servers": 1 + len(counters), "unreachable": unreachable, "decided": decided}
    return Report("unused", tuple(rows), tuple(findings), note, facts)


def _standby_counters(asked: Asked) -> tuple[list[dict[str, int]], list[str]]:
    """Scans by schema.index of each standby, and the standbys that could not be asked. They are reached as the primary is, at another address."""
    counters, unreachable = [], []
    for address in asked.standbys:
        host, _colon, port = address.rpartition(":") if address.count(":") == 1 else (address, "", "")
        settings = dataclasses.replace(asked.settings, host=host, port=int(port) if port.isdigit() else asked.settings.port)
        try:
            with connect(settings, application_name="lastro index_validation", autocommit=True, statement_timeout="30s") as connection:
                (answer,) = ask(connection, [Unit((Item(ask=(queries.UNUSED,)),))])
        except LastroError:
            answer = Answer(state="08001")
        if answer.state:
            unreachable.append(address)
        else:
            counters.append({f"{row['schema']}.{row['index']}": row["scans"] for row in json.loads(answer.said[0])["rows"]})
    return counters, unreachable


def _bloat(exact: Answer, estimate: Answer, asked: Asked) -> Report:
    if exact.state and estimate.state:
        return Report("bloat", note=_refused("bloat", estimate))
    how = "estimate" if exact.state else "pgstattuple"
    rows = json.loads((estimate if exact.state else exact).said[0])
    unknown = sum(1 for row in rows if row["percent"] is None)
    note = Text("measured with pgstattuple", "medido com pgstattuple")
    if exact.state:
        note = Text(f"estimated from statistics, since {exact.message}", f"estimado pelas estatísticas, pois {exact.message}")
    if unknown:
        note = Text(
            f"{note.en}; {unknown} without statistics: ANALYZE their tables", f"{note.pt_BR}; {unknown} sem estatísticas: execute ANALYZE em suas tabelas"
        )
    over = [row for row in rows if row["percent"] is not None and row["percent"] >= asked.thresholds.bloat_percent]
    findings = []
    for row in over:
        words = Text(f"{row['percent']} % of {row['bytes']} bytes are empty", f"{row['percent']} % de {row['bytes']} bytes estão vazios")
        findings.append(_finding("bloat", "bloat", row, words, f"REINDEX INDEX CONCURRENTLY {_qualified(row)};"))
    return Report("bloat", tuple(over), tuple(findings), note, {"how": how, "looked_at": len(rows)})


def _slow(connection: PostgresConnection, rows: list[Row]) -> Report:
    """The statements with the nodes of their generic plans; one whose text makes no plan says why."""
    units, planned = [], []
    for number, row in enumerate(rows):
        if not is_one_statement(row["query"]):
            row["problem"] = "more than one statement"
            continue
        values = ", ".join(["NULL"] * parameter_count(row["query"]))
        units.append(Unit((explained(f"lastro_slow_{number}", row["query"].strip().rstrip(";"), values, (GENERIC,)),)))
        planned.append(row)
    for row, answer in zip(planned, ask(connection, units)):  # noqa: B905
        if answer.state:
            row["problem"] = answer.message
        else:
            reading = Reading.of(answer)
            row["plan"] = [scan.words() for scan in reading.scans]
            row["reads_whole"] = sorted({scan.qualified for scan in reading.scans if scan.sequential})
    return Report("slow", tuple(rows), tuple(map(_slow_finding, rows)))


def _slow_finding(row: Row) -> IndexFinding:
    head = f"{row['mean_ms']} ms × {row['calls']}"
    plan = ", ".join(row.get("plan", ())) or row.get("problem", "")
    words = Text(f"{head}: {plan or 'no plan'}", f"{head}: {plan or 'sem plano'}")
    statement = " ".join(row["query"].split())
    return IndexFinding("slow", "slow", statement[:120], ", ".join(row.get("reads_whole", ())), "", plan, words, f"EXPLAIN {statement};")


__all__ = ("REPORTS", "Asked", "Report", "Thresholds", "read", "threshold_options")
