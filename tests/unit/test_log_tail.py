# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process wrote last, without what it must not have written."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lastro.deploy.plugins.module_utils import _log_tail as log_tail

SECRETS = {
    "DATABASE_URL": "postgresql+psycopg2://app:p%40ss-word@db:5432/x",
    "TOKEN_KEY": "abcdef0123456789",
    "LONGER_KEY": "abcdef0123456789-and-more",
    "PEM": "first line of it\nsecond line of it",
    "DEBUG": "1",
    "PATH": "/usr/bin",
}


def test_values_and_the_passwords_in_them_are_replaced_by_names(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "start 1 of 1 with /usr/bin\n"
        f"cannot connect to {SECRETS['DATABASE_URL']}\n"
        "password p@ss-word or p%40ss-word refused\n"
        f"{SECRETS['LONGER_KEY']} {SECRETS['TOKEN_KEY']}\n"
        f"{SECRETS['PEM']}!\n",
        encoding="utf-8",
    )
    assert log_tail.main([str(log)], SECRETS) == (
        "start 1 of 1 with /usr/bin\ncannot connect to [DATABASE_URL]\npassword [DATABASE_URL] or [DATABASE_URL] refused\n[LONGER_KEY] [TOKEN_KEY]\n[PEM]!"
    )


def test_only_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(50_000)), encoding="utf-8")
    shown = log_tail.main([str(log)], {}).splitlines()
    assert (len(shown), shown[0], shown[-1]) == (log_tail.LINES, "line 49980", "line 49999")


def test_a_value_of_many_lines_at_the_cut_stays_hidden(tmp_path: Path) -> None:
    log = tmp_path / "log"
    key = "\n".join(f"piece-{number}-of-the-key" for number in range(40))
    log.write_text(f"{key}\nend\n", encoding="utf-8")
    assert log_tail.main([str(log)], {"KEY": key}) == "[KEY]\nend"


def test_a_value_that_was_cut_is_not_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("secret-" + "0123456789" * 7000 + "\nend\n", encoding="utf-8")
    assert log_tail.main([str(log)], {"KEY": "secret-" + "0123456789" * 7000}) == "end"


def test_no_log_is_no_line(tmp_path: Path) -> None:
    assert log_tail.main([str(tmp_path / "none")], SECRETS) == ""
