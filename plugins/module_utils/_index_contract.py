# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An index contract that is not written by hand: from an application's models, or from a good database. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import subprocess
import tempfile
import typing as t
from pathlib import Path

from . import _environment_file, _index_contract_shim
from ._alembic_child import SECRET_NAME
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._index_validation_compare import Index
from ._index_validation_contract import Expected
from ._index_validation_server import reason
from ._index_validation_sql import read_facts
from ._postgres import ConnectionSettings, connect, connection_argument_spec, redact, settings_from_params

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

Entry = dict[str, t.Any]

KEYS = ("name", "schema", "table", "columns", "unique", "nulls_not_distinct", "include", "where", "method", "constraint")
_PLAIN = re.compile(r"[A-Za-z_][\w$.]*\Z")
_NOT_TEXT = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
# Tables of their own; what belongs to a partition belongs to its parent's index.
_TABLES = """
SELECT n.nspname, t.relname FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE t.relkind IN ('r', 'p', 'm') AND NOT t.relispartition AND n.nspname = ANY(%s) AND (cardinality(%s::text[]) = 0 OR t.relname = ANY(%s))
ORDER BY 1, 2
"""


def argument_spec() -> ArgumentSpec:
    """The options of the module index_contract_info."""
    connection = connection_argument_spec()
    models: dict[str, t.Any] = {
        "python": {"type": "path", "required": True},
        "chdir": {"type": "path", "required": True},
        "metadata": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 60},
    }
    options: dict[str, dict[str, t.Any]] = {
        **connection.options,
        "models": {"type": "dict", "options": models},
        "schemas": {"type": "list", "elements": "str", "default": ["public"]},
        "tables": {"type": "list", "elements": "str", "default": []},
    }
    one_of = tuple((*names, "models") for names in connection.required_one_of)
    return ArgumentSpec(options=options, required_one_of=one_of, mutually_exclusive=connection.mutually_exclusive)


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's return values. Raises LastroError."""
    if params.get("models"):
        entries, left_out = from_models(params["models"], _variables(params.get("environment_file")))
        wanted = set(params["tables"])
        entries = [entry for entry in entries if not wanted or entry["table"] in wanted]
    else:
        entries, left_out = from_database(settings_from_params(params), params["schemas"], params["tables"])
    return {"indexes": entries, "left_out": left_out, "yaml": as_yaml(entries)}


def _variables(path: str | None) -> dict[str, str]:
    if not path:
        return {}
    try:
        return dict(_environment_file.read(path))
    except OSError as error:
        raise LastroError(
            f"The environment file {path} cannot be read: {error.strerror}.",
            remedy=Text(en="Name a file of VARIABLE=value lines.", pt_BR="Indique um arquivo com linhas VARIÁVEL=valor."),
        ) from None


def from_models(models: t.Mapping[str, t.Any], variables: t.Mapping[str, str]) -> tuple[list[Entry], list[str]]:
    """What SQLAlchemy models declare, read by the application's own interpreter. *models* are the module's options. Raises LastroError."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH") and not name.startswith("PG")}
    with tempfile.TemporaryFile() as answer:
        # The application may print what it likes; the answer has a file of its own.
        command = [models["python"], "-c", inspect.getsource(_index_contract_shim), models["metadata"], str(answer.fileno())]
        try:
            # A backend knows no AnsibleModule, so there is no run_command here.
            finished = subprocess.run(  # pylint: disable=ansible-bad-function
                command,
                cwd=models["chdir"],
                env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **variables},
                pass_fds=(answer.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=models["timeout"],
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = f"{error.strerror}" if isinstance(error, OSError) else f"nothing came within {models['timeout']} s"
            raise _unreadable(models, why) from None
        answer.seek(0)
        text = answer.read().decode()
    if not text:
        raise _unreadable(models, f"the interpreter ended with {finished.returncode}")
    found = json.loads(text)
    if "problem" in found:
        raise _unreadable(models, _without_secrets(found["problem"], variables))
    return [{name: entry[name] for name in KEYS if name in entry} for entry in found["indexes"]], found["left_out"]


def _without_secrets(text: str, variables: t.Mapping[str, str]) -> str:
    for name, value in variables.items():
        if SECRET_NAME.search(name) and len(value) >= 6:
            text = text.replace(value, "********")
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1********@", text)


def _unreadable(models: t.Mapping[str, t.Any], why: str) -> LastroError:
    place = f"{models['metadata']} in {Path(models['chdir'])} with {models['python']}"
    return LastroError(
        f"The models {place} cannot be read: {why}.",
        remedy=Text(
            en="Name the release's directory in chdir, its interpreter in python, and the models' MetaData or declarative base as package.module:object.",
            pt_BR="Indique o diretório da versão em chdir, seu interpretador em python, e o MetaData ou a base declarativa como pacote.modulo:objeto.",
        ),
    )


def from_database(settings: ConnectionSettings, schemas: t.Sequence[str], tables: t.Sequence[str]) -> tuple[list[Entry], list[str]]:
    """What a database has, and what is left out of a contract for being unfinished. Raises LastroError."""
    try:
        with connect(settings, application_name="lastro index_contract_info", autocommit=True, statement_timeout="60s", lock_timeout="5s") as connection:
            with connection.cursor() as cursor:
                cursor.execute(_TABLES, (list(schemas), list(tables), list(tables)))
                found: list[tuple[str, str]] = cursor.fetchall()
            facts = read_facts(connection, [Expected(schema, table, ()) for schema, table in found])
    except psycopg2.Error as error:
        raise LastroError(
            f"PostgreSQL at {settings} refused to be read: {redact(reason(error), settings)}.",
            remedy=Text(en="Look at what the server says, and run this again.", pt_BR="Veja o que o servidor diz, e execute de novo."),
        ) from None
    every = [(schema, table, index) for (schema, table) in found for index in facts.tables[schema, table].indexes]
    good = [(schema, table, index) for schema, table, index in every if index.valid and index.ready and index.live and not index.uncovered]
    bad = [f"{schema}.{index.name}: not valid" for schema, table, index in every if (schema, table, index) not in good]
    return [_entry(schema, table, index) for schema, table, index in good], bad


def _entry(schema: str, table: str, index: Index) -> Entry:
    definition = index.definition
    included = [column.name[1:-1].replace('""', '"') if column.name.startswith('"') else column.name for column in definition.columns if column.included]
    entry = {
        "name": index.name,
        "schema": "" if schema == "public" else schema,
        "table": table,
        "columns": [column.words() for column in definition.keys],
        "unique": definition.unique,
        "nulls_not_distinct": definition.nulls_not_distinct,
        "include": included,
        "where": definition.predicate,
        "method": "" if definition.method == "btree" else definition.method,
        "constraint": "" if index.constraint_kind == "none" else index.constraint_kind,
    }
    return {name: value for name, value in entry.items() if value}


def as_yaml(entries: t.Sequence[Entry]) -> str:
    """The entries as the value of C(deploy_indexes), one line each."""
    if not entries:
        return "deploy_indexes: []\n"
    lines = [f"  - {{{', '.join(f'{name}: {_yaml(value)}' for name, value in entry.items())}}}" for entry in entries]
    return "\n".join(["deploy_indexes:", *lines]) + "\n"


def _yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    text = str(value)
    plain = isinstance(value, str) and _PLAIN.match(text) and text.lower() not in _NOT_TEXT
    return text if plain else json.dumps(value, ensure_ascii=False)


__all__ = ("argument_spec", "as_yaml", "from_database", "from_models", "run")
