# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic and alembic_info with input that cannot work: one message with its remedy, and nothing changed."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest

from .alembic_project import CHAIN, ENV, App, Modules, names, written


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "release", database)


def no_alembic(app: App) -> str:
    path = app.directory / "python-without-alembic"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    path.chmod(0o755)
    return str(path)


SPOILED: dict[str, tuple[t.Callable[[App], dict[str, t.Any]], str, str]] = {
    "no alembic.ini": (lambda app: {"config": "missing.ini"}, "config", "missing.ini"),
    "no directory": (lambda app: {"chdir": str(app.directory / "gone")}, "chdir", "gone"),
    "no script_location": (lambda app: written(app, "alembic.ini", "[alembic]\nscript_location = nowhere\n"), "config", "nowhere"),
    "broken env.py": (lambda app: written(app, "migrations/env.py", "import no_such_app\n"), "env", "no_such_app"),
    "env.py that ends the process": (lambda app: written(app, "migrations/env.py", "raise SystemExit('bye')\n"), "env", "SystemExit: bye"),
    "env.py that runs nothing": (lambda app: written(app, "migrations/env.py", "import os\n"), "env", "never calls"),
    "env.py for another database": (
        lambda app: written(app, "migrations/env.py", ENV.replace("create_engine(url, poolclass", "create_engine('sqlite://', poolclass")),
        "dialect",
        "sqlite",
    ),
    "env.py that connects elsewhere": (
        lambda app: written(
            app, "migrations/env.py", ENV.replace("create_engine(url,", "create_engine(url.replace('127.0.0.1', '127.0.0.2').replace(':', ':1', 0),")
        ),
        "connect",
        "cannot connect",
    ),
    "import error in a revision": (
        lambda app: written(app, "migrations/versions/bad.py", "import no_such\n"),
        "revision_files",
        "bad.py: ModuleNotFoundError",
    ),
    "syntax error in a revision": (lambda app: written(app, "migrations/versions/bad.py", "def x(:\n"), "revision_files", "bad.py: SyntaxError"),
    "unknown revision": (lambda app: {"revision": "nope"}, "revision", "nope"),
    "no such branch label": (lambda app: {"revision": "nobody@head"}, "revision", "nobody"),
    "relative revision": (lambda app: {"revision": "+1"}, "option", "relative"),
    "interpreter missing": (lambda app: {"python": "/nonexistent/python"}, "python", "/nonexistent/python"),
    "interpreter that is none": (lambda app: {"python": "/bin/true"}, "ended", "/bin/true"),
    "alembic not installed": (lambda app: {"python": no_alembic(app)}, "alembic_missing", "cannot import Alembic"),
    "wrong password": (lambda app: {"database_url": app.url.replace("@", "x@")}, "", "password authentication failed"),
    "unreachable database": (lambda app: {"database_url": "postgresql://u:hunter2@127.0.0.1:1/x"}, "", "cannot be reached"),
}


def one_message(result: dict[str, t.Any]) -> bool:
    """Whether it is one message with a remedy in both languages, and no traceback that nobody asked for."""
    return result["remedy"]["en"] in result["msg"] and bool(result["remedy"]["pt_BR"]) and "traceback_tail" not in result


@pytest.mark.parametrize("what", list(SPOILED))
def test_bad_input_is_one_message_with_its_remedy(modules: Modules, app: App, what: str) -> None:
    spoil, code, words = SPOILED[what]
    options = spoil(app)
    before = app.files()
    for call in (modules.info, modules.alembic):
        result = call(app, fails=True, **options)
        assert (result.get("code", ""), words in result["msg"]) == (code, True), result["msg"]
        assert one_message(result)
        secret = str(options.get("database_url", app.url)).split(":")[2].split("@")[0]
        assert secret not in json.dumps({name: value for name, value in result.items() if name != "invocation"})
    modules.verbosity = 3
    aloud = modules.info(app, fails=True, **options)
    assert len(aloud.get("traceback_tail", [])) <= 5
    assert secret not in json.dumps({name: value for name, value in aloud.items() if name != "invocation"})
    assert app.rows("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    assert app.files() == before


def test_two_heads(modules: Modules, app: App) -> None:
    app.revision("other", "r7", "pass", "pass")
    assert modules.info(app)["heads"] == ["other", "r8"]
    result = modules.alembic(app, fails=True)
    assert (result["code"], result["heads"], one_message(result)) == ("multiple_heads", ["other", "r8"], True)
    assert app.rows("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lock_timeout": "2 seconds"}, "'2 seconds' is not a duration"),
        ({"deadline": 0}, "deadline"),
        ({"state": "downgraded"}, "needs the revision"),
    ],
)
def test_options_that_make_no_sense(modules: Modules, app: App, options: dict[str, t.Any], words: str) -> None:
    result = modules.alembic(app, fails=True, **options)
    assert (result["code"], words in result["msg"]) == ("option", True)


def test_env_py_of_other_shapes(modules: Modules, app: App) -> None:
    online = ENV.replace("if context.is_offline_mode():", "if False:")
    written(app, "migrations/env.py", online)
    assert modules.info(app)["findings"][0]["rule"] == "drop-column", "an env.py without an offline part is rendered all the same"
    written(app, "migrations/env.py", ENV.replace("    context.configure(url=url", "    raise RuntimeError('online only')\n    context.configure(url=url"))
    info = modules.info(app)
    assert {finding["rule"] for finding in info["findings"]} == {"unrenderable"}
    assert info["compatible"] is False


def test_env_py_with_a_transaction_of_its_own(modules: Modules, tmp_path: Path, database: str) -> None:
    app = App.create(tmp_path / "own", database, dict(list(CHAIN.items())[:3]))
    # a statement before configure() opens a transaction that nobody commits
    written(app, "migrations/env.py", ENV.replace("context.configure(connection", "connection.exec_driver_sql('SELECT 1'); context.configure(connection"))
    result = modules.alembic(app, fails=True)
    assert (result["code"], result["after"]) == ("not_there", [])
    assert "commit" in result["remedy"]["en"]
    # one transaction around everything, which env.py commits
    written(app, "migrations/env.py", ENV.replace(".connect() as connection", ".begin() as connection"))
    result = modules.alembic(app)
    assert (result["after"], names(result["applied"])) == (["r3"], ["r1", "r2", "r3"])


def test_a_session_whose_limits_are_not_in_force_is_refused(modules: Modules, app: App) -> None:
    written(
        app,
        "migrations/env.py",
        ENV.replace("context.configure(connection", "connection.exec_driver_sql('SET lock_timeout = 0'); connection.commit(); context.configure(connection"),
    )
    result = modules.alembic(app, fails=True)
    assert (result["code"], "lock_timeout is 0" in result["msg"], result["after"]) == ("settings", True, [])


def test_a_revision_that_fails_leaves_those_before_it(modules: Modules, app: App) -> None:
    app.revision("r3", "r2", "op.execute('CREATE TABLE third (id int)'); raise KeyError('nothing there')", "pass")
    result = modules.alembic(app, fails=True)
    assert (result["code"], result["revision"], result["after"], result["changed"]) == ("migration", "r3", ["r2"], True)
    assert "KeyError: 'nothing there'" in result["msg"]
    assert app.rows("SELECT to_regclass('third')") == [(None,)]
