# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection settings: what a URL says, what libpq gets of it, and where the password never is."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
import typing as t
from pathlib import Path
from urllib.parse import quote

import psycopg2.extensions
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file, _postgres
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import ConnectionSettings, libpq_environment, parse_url, redact, settings_from_params
from hypothesis import given
from hypothesis import strategies as st

PASSWORD = "50%sure/of:it@home#?&+ ç"

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
words = st.text(characters, max_size=16)
awkward = st.text(st.sampled_from("%:/@?#&+=[]\\ '\"ç€\n2F"), max_size=12)
hosts = st.one_of(
    st.just(""),
    st.from_regex(r"[a-z][a-z0-9-]{0,8}(\.[a-z]{2,5})?", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"/[A-Za-z][A-Za-z0-9 %_.-]{0,12}", fullmatch=True),
)
parameters = st.dictionaries(
    st.sampled_from(["options", "sslcert", "application_name", "prepared_statement_cache_size", "sslpassword"]), words.filter(bool), max_size=3
)
settings = st.builds(
    ConnectionSettings,
    host=hosts,
    port=st.integers(1, 65535),
    user=words | awkward,
    password=words | awkward,
    database=(words | awkward).filter(bool),
    ssl_mode=st.sampled_from(_postgres.SSL_MODES),
    ca_cert=words,
    parameters=parameters,
)


@given(settings, st.sampled_from(["postgresql", "postgres", "postgresql+psycopg2", "postgresql+asyncpg"]))
def test_a_url_says_all_of_its_settings(one: ConnectionSettings, scheme: str) -> None:
    assert parse_url(one.url().replace("postgresql", scheme, 1)) == one


@given(settings)
def test_libpq_understands_the_url_in_the_same_way(one: ConnectionSettings) -> None:
    known = dataclasses.replace(one, parameters={name: value for name, value in one.parameters.items() if name != "prepared_statement_cache_size"})
    parsed = {name: value for name, value in psycopg2.extensions.parse_dsn(known.url()).items() if value}
    parsed.pop("application_name", None)  # ours goes before it, see connect()
    assert {"sslmode": "prefer", **parsed} == {name: str(value) for name, value in known.keywords().items()}


@given(settings, words, words)
def test_the_password_is_in_no_text(one: ConnectionSettings, before: str, after: str) -> None:
    secret = "s3cr%t:" + one.password
    other = dataclasses.replace(one, password=secret)
    assert secret not in repr(other) + str(other)
    encoded = other.url()
    for text in (f"{before}{secret}{after}", encoded, f"FATAL: {encoded} {secret}"):
        assert secret not in redact(text, other)
        assert quote(secret, safe="") not in redact(text, other)


def test_percent_signs() -> None:
    url = "postgresql://us%40er:50%25sure%2Fof%3Ait%40home%23%3F%26%2B%20%C3%A7@db.example.org:6432/my%2Fdb"
    assert parse_url(url) == ConnectionSettings("db.example.org", 6432, "us@er", PASSWORD, "my/db")
    # What nobody encoded is taken as it stands, as far as a URL can be read then.
    assert parse_url("postgresql://u:100%@h/d").password == "100%"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://h/d", ConnectionSettings("h", database="d")),
        ("postgresql:///d?host=/run/PG&port=5433&user=ana&password=x", ConnectionSettings("/run/PG", 5433, "ana", "x", "d")),
        ("postgresql://?dbname=d&host=h", ConnectionSettings("h", database="d")),
        ("postgresql://%2Frun%2FPG:5433/d", ConnectionSettings("/run/PG", 5433, database="d")),
        ("postgresql://DB.Example.org/d", ConnectionSettings("DB.Example.org", database="d")),
        ("postgresql://u@[::1]:5433/d?sslmode=verify-full&sslrootcert=/ca.pem", ConnectionSettings("::1", 5433, "u", "", "d", "verify-full", "/ca.pem")),
        # What stands before the question mark goes first, and the other password is kept nowhere.
        ("postgresql://u:one@h:1/d?user=v&password=two&host=g&port=2&dbname=e", ConnectionSettings("h", 1, "u", "one", "d")),
        ("postgresql://h/d?application_name=app&sslcert=/c", ConnectionSettings("h", database="d", parameters={"application_name": "app", "sslcert": "/c"})),
    ],
)
def test_urls(url: str, expected: ConnectionSettings) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://u:{PASSWORD}@h/d", "a port that is not a number"),
        ("postgresql://u:s3cret@h:port/d", "a port that is not a number"),
        ("postgresql://h/d?port=s3cret", "a port that is not a number"),
        ("postgresql://u:s3cret]@[h/d", "a port that is not a number"),
        ("mysql://u:s3cret@h/d", "starts with mysql"),
        ("u:s3cret", "starts with u"),
        ("s3cret", "no scheme"),
        ("postgresql://u:s3cret@h", "names no database"),
        ("postgresql://u:s3cret@h/", "names no database"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(LastroError, match=message) as caught:
        parse_url(url)
    shown = str(caught.value) + caught.value.remedy.pt_BR
    assert "s3cret" not in shown and PASSWORD not in shown
    assert caught.value.__cause__ is None


def test_keywords_for_psycopg2() -> None:
    url = "postgresql://u:p@h:5433/d?application_name=app&options=-c%20search_path%3Dx&prepared_statement_cache_size=0&sslcert=/c&ssl=require"
    assert parse_url(url).keywords() == {
        "host": "h",
        "port": 5433,
        "user": "u",
        "password": "p",
        "dbname": "d",
        "sslmode": "prefer",
        "options": "-c search_path=x",
        "sslcert": "/c",
    }
    assert parse_url("postgresql:///d").keywords() == {"port": 5432, "dbname": "d", "sslmode": "prefer"}
    assert parse_url("postgresql://h/d").with_database("e").database == "e"
    assert str(parse_url("postgresql://u:p@h/d")) == "u@h:5432/d"
    assert str(parse_url("postgresql:///d")) == "@local socket:5432/d"


# --- options of a module ----------------------------------------------------------------------------------------------


def test_from_options(tmp_path: Path) -> None:
    assert settings_from_params({"database_url": "postgresql://u:p@h/d", "login_port": 1}) == parse_url("postgresql://u:p@h/d")
    file = tmp_path / "r1.env"
    file.write_text(_environment_file.render({"DATABASE_URL": "postgresql://u:p%25@h/d"}), encoding="utf-8")
    assert settings_from_params({"environment_file": str(file), "url_variable": "DATABASE_URL"}).password == "p%"
    with pytest.raises(LastroError, match="has no ADMIN_URL"):
        settings_from_params({"environment_file": str(file), "url_variable": "ADMIN_URL"})
    with pytest.raises(LastroError, match="cannot be read: No such file"):
        settings_from_params({"environment_file": str(tmp_path / "none"), "url_variable": "DATABASE_URL"})
    login = {"login_host": "h", "login_port": 5433, "login_user": "u", "login_password": "p", "login_db": "d", "ssl_mode": "require", "ca_cert": "/ca"}
    assert settings_from_params(login) == ConnectionSettings("h", 5433, "u", "p", "d", "require", "/ca")
    assert settings_from_params({"login_db": "d"}) == ConnectionSettings(database="d")


def test_secrets_are_registered() -> None:
    module = types.SimpleNamespace(no_log_values=set())
    _postgres.register_secrets(t.cast(t.Any, module), parse_url("postgresql://h/d"))
    assert module.no_log_values == set()
    _postgres.register_secrets(t.cast(t.Any, module), parse_url("postgresql://u:p%25@h/d?sslpassword=other"))
    assert module.no_log_values == {"p%", "other"}


def test_the_spec_is_that_of_the_documentation() -> None:
    spec = _postgres.connection_argument_spec()
    assert spec.options["database_url"]["no_log"] is spec.options["login_password"]["no_log"] is True
    assert spec.required_one_of == spec.mutually_exclusive


def test_without_psycopg2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres, "HAS_PSYCOPG2", False)
    with pytest.raises(LastroError, match="has no psycopg2") as caught, _postgres.connect(ConnectionSettings(database="d"), application_name="x"):
        pass
    assert "psycopg2-binary" in caught.value.remedy.pt_BR


def test_an_address_where_nobody_listens() -> None:
    settings = parse_url(f"postgresql://u:{quote(PASSWORD, safe='')}@127.0.0.1:1/d?sslkey=/nonexistent")
    with (
        pytest.raises(LastroError, match=r"PostgreSQL at u@127\.0\.0\.1:1/d cannot be reached: .*refused") as caught,
        _postgres.connect(settings, application_name="x"),
    ):
        pass
    assert PASSWORD not in str(caught.value) and caught.value.__cause__ is None


def test_what_this_libpq_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_postgres, "LIBPQ_ONLY", {"from_the_future"})
    with (
        pytest.raises(LastroError, match=r'cannot be reached: .*"from_the_future"'),
        _postgres.connect(parse_url("postgresql://h/d?from_the_future=1"), application_name="x"),
    ):
        pass


# --- programs ---------------------------------------------------------------------------------------------------------

SHOW = """
import os, pathlib, stat, sys
file = pathlib.Path(os.environ["PGPASSFILE"])
print(oct(stat.S_IMODE(file.stat().st_mode)), stat.S_ISREG(file.stat().st_mode), file.stat().st_nlink)
sys.stdout.flush()
sys.stdout.buffer.write(pathlib.Path("/proc/self/environ").read_bytes() + pathlib.Path("/proc/self/cmdline").read_bytes())
"""


def test_a_program_gets_the_password_in_a_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "of somebody else")
    monkeypatch.setenv("PGSERVICE", "of somebody else")
    settings = ConnectionSettings("h", 5433, "u", PASSWORD + "\\", "d", ca_cert="/ca")
    with libpq_environment(settings, application_name="lastro test") as environment:
        shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, check=True).stdout
        modes, _unused, rest = shown.partition(b"\n")
        assert modes == b"0o600 True 0", "libpq wants a regular file of ours alone; no directory knows this one"
        assert PASSWORD.encode() not in rest
        passfile = Path(environment["PGPASSFILE"])
        assert passfile.read_text(encoding="utf-8") == "*:*:*:*:" + PASSWORD.replace(":", "\\:") + "\\\\\n"
    assert not passfile.exists()
    named = {name: value for name, value in environment.items() if name.startswith("PG") and name != "PGPASSFILE"}
    assert named == {
        "PGHOST": "h",
        "PGPORT": "5433",
        "PGUSER": "u",
        "PGDATABASE": "d",
        "PGSSLMODE": "prefer",
        "PGSSLROOTCERT": "/ca",
        "PGAPPNAME": "lastro test",
        "PGCONNECT_TIMEOUT": "10",
        "PGOPTIONS": "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0",
    }
    assert environment["PATH"] == os.environ["PATH"]


def test_parameters_of_the_url_reach_programs() -> None:
    query = "sslcert=/c&sslkey=/k&target_session_attrs=read-write&connect_timeout=3&options=-c%20search_path%3Dx&channel_binding=require"
    query += "&application_name=app&client_encoding=latin1"
    with libpq_environment(parse_url(f"postgresql://h/d?{query}"), application_name="lastro test") as environment:
        named = {name: environment[name] for name in environment if name.startswith("PG")}
    wanted = {
        "PGSSLCERT": "/c",
        "PGSSLKEY": "/k",
        "PGTARGETSESSIONATTRS": "read-write",
        "PGCONNECT_TIMEOUT": "3",
        "PGAPPNAME": "lastro test",
        "PGCHANNELBINDING": "require",
    }
    assert wanted.items() <= named.items()
    assert named["PGOPTIONS"].startswith("-c search_path=x -c statement_timeout=0")
    assert "PGCLIENTENCODING" not in named


def test_the_variables_are_those_of_libpq() -> None:
    known = {name: variable for name, variable in _postgres.LIBPQ_VARIABLES.items() if variable != "PG" + name.replace("_", "").upper()}
    assert known == {"connect_timeout": "PGCONNECT_TIMEOUT"}
