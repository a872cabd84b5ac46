# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program pgbackrest as a child of ours, under the account of PostgreSQL, and what its exit status means. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import shutil
import typing as t

from ._backup_programs import running
from ._errors import LastroError, Text

PROGRAM = "pgbackrest"
LEAST = (2, 41)
"""The first version with annotations, by which a run knows its backup again."""
ACCOUNT = "postgres"
_STDERR_LIMIT = 16 * 1024
_SAID_LIMIT = 600

# pgBackRest's src/build/error/error.yaml.
LOCKED, STOPPED, ARCHIVE_COMMAND, ARCHIVE_TIMEOUT = 50, 62, 68, 82
REMEDY_OF_ARCHIVE = Text(
    en="Mend archive_command or the repository (`pgbackrest check` repeats this; PostgreSQL's log has what archive-push says), and run again.",
    pt_BR="Corrija archive_command ou o repositório (`pgbackrest check` repete isto; o log do PostgreSQL mostra o que archive-push diz) e execute de novo.",
)
REMEDY_WHEN_LOCKED = Text(
    en="Another backup, expire or stanza command of pgBackRest runs for this stanza. Wait until it is done and run again.",
    pt_BR="Outro backup, expire ou comando de stanza do pgBackRest está rodando para esta stanza. Espere terminar e execute de novo.",
)
_REMEDIES = {
    LOCKED: REMEDY_WHEN_LOCKED,
    STOPPED: Text(
        en="Somebody has stopped pgBackRest here. Ask why, then let it run again with `pgbackrest start`.",
        pt_BR="Alguém parou o pgBackRest aqui. Pergunte por quê e depois libere-o com `pgbackrest start`.",
    ),
    ARCHIVE_COMMAND: REMEDY_OF_ARCHIVE,
    ARCHIVE_TIMEOUT: REMEDY_OF_ARCHIVE,
}
_OTHERWISE = Text(
    en="Remove the cause that pgBackRest names and run again; its log-path has the details.",
    pt_BR="Elimine a causa indicada pelo pgBackRest e execute de novo; o log-path dele tem os detalhes.",
)


@dataclasses.dataclass(frozen=True)
class Program:
    """pgbackrest for one *stanza*, run by *account* (None: by this process's own)."""

    path: str
    stanza: str
    config: str | None
    repo: int | None
    account: pwd.struct_passwd | None

    def command(self, name: str, *arguments: str) -> list[str]:
        """The arguments of a command, without what makes it run as another account."""
        config = [f"--config={self.config}"] if self.config else []
        repo = [f"--repo={self.repo}"] if self.repo is not None else []
        return [self.path, *config, f"--stanza={self.stanza}", *repo, *arguments, name]

    def run(self, doing: str, name: str, *arguments: str, each: t.Callable[[str], None] | None = None) -> str:
        """The output of a command; *each* gets its lines as they come. *doing* begins the message of what fails. Raises LastroError."""
        return self._run(doing, self.command(name, "--log-level-stderr=warn", "--no-log-timestamp", *arguments), each)

    def version(self) -> str:
        """For example 2.45. Raises LastroError for a pgBackRest that is too old."""
        said = self._run("pgBackRest does not start", [self.path, "version"], None)
        match = re.search(r"(\d+)\.(\d+)\S*", said)
        if not match or (int(match.group(1)), int(match.group(2))) < LEAST:
            raise LastroError(
                f"pgBackRest says {said.strip()[:60]!r}; {LEAST[0]}.{LEAST[1]} or newer is needed.",
                remedy=Text(en="Install a newer pgbackrest on this host.", pt_BR="Instale um pgbackrest mais novo neste host."),
            )
        return match.group()

    def _run(self, doing: str, command: list[str], each: t.Callable[[str], None] | None) -> str:
        lines = []
        with running(name=PROGRAM, command=self._as(command), environment=self._environment(), writes=True) as child:
            for raw in child.source:
                line = raw.decode("utf-8", errors="replace")
                if each:
                    each(line)
                else:
                    lines.append(line)
            status = child.wait()
            child.errors.seek(0)
            said = " ".join(child.errors.read(_STDERR_LIMIT).decode("utf-8", errors="replace").split())[:_SAID_LIMIT]
        if status:
            reason = said or (f"ended by signal {-status}" if status < 0 else f"exit status {status}")
            raise LastroError(f"{doing}: {reason.rstrip('.')}.", remedy=_REMEDIES.get(status, _OTHERWISE), code="busy" if status == LOCKED else "pgbackrest")
        return "".join(lines)

    def _as(self, command: list[str]) -> list[str]:
        """Where this process is killed its child ends too, and lets go of pgBackRest's lock."""
        become = [f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--init-groups"] if self.account else []
        return ["setpriv", *become, "--pdeathsig=TERM", "--", *command]

    def _environment(self) -> dict[str, str]:
        """Nothing of ours, which may hold a password."""
        home = self.account.pw_dir if self.account else os.environ.get("HOME", "/")
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": home}


def find(*, stanza: str, config: str | None, repo: int | None, user: str | None) -> Program:
    """pgbackrest on this host, for *user*: where this process is root the account that runs PostgreSQL, else nobody else. Raises LastroError."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise LastroError(
            f"{PROGRAM} is not on this host (not in PATH).",
            remedy=Text(
                en="Install the package pgbackrest on the primary, where PostgreSQL runs or as its repository host.",
                pt_BR="Instale o pacote pgbackrest no primário, onde o PostgreSQL roda ou que seja o host do repositório.",
            ),
        )
    return Program(path, stanza, config, repo, _account(user))


def _account(user: str | None) -> pwd.struct_passwd | None:
    own = os.geteuid()
    if own and user is None:
        return None
    name = user or ACCOUNT
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        problem = f"user is {name}: there is no such account on this host"
    else:
        if own in (0, account.pw_uid):
            return account if own == 0 else None
        problem = f"user is {name}, and this process, which is not root, cannot become it"
    raise LastroError(
        f"{problem}.",
        remedy=Text(
            en="Name in user the account that runs PostgreSQL (or owns the repository), or let Ansible become it.",
            pt_BR="Indique em user a conta que roda o PostgreSQL (ou é dona do repositório), ou deixe o Ansible assumi-la com become.",
        ),
    )


__all__ = ("ACCOUNT", "PROGRAM", "REMEDY_OF_ARCHIVE", "REMEDY_WHEN_LOCKED", "Program", "find")
