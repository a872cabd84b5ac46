# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the units of the strategy systemd. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
import re
import shlex
import typing as t
from pathlib import Path

from . import _environment_file
from ._errors import LastroError, Text
from ._process import Process, reading

COMMENT = "#"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WANTED_BY = "multi-user.target"
HOMES = ("/home", "/root")

HARDENING = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
)
"""What an ordinary web service or worker can do without. Not MemoryDenyWriteExecute: compiled extensions of Python may need such memory."""

_PLAIN = re.compile(r"[A-Za-z0-9_@%$+=:,./-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclasses.dataclass(frozen=True)
class Limit:
    """A resource that a process may be limited in: its directive, the shape of a value, and one that has it."""

    directive: str
    pattern: str
    example: str

    def takes(self, value: object) -> bool:
        """Whether *value* has the shape."""
        return not isinstance(value, bool) and bool(re.fullmatch(self.pattern, str(value)))


LIMITS = {
    "memory_max": Limit("MemoryMax", r"[1-9]\d*[KMGT]?", "512M"),
    "cpu_quota": Limit("CPUQuota", r"[1-9]\d*%", "150%"),
    "tasks_max": Limit("TasksMax", r"[1-9]\d*", "512"),
}


def unit_text(process: Process, limits: t.Sequence[str] = (), writable: t.Sequence[str] = ()) -> str:
    """The file of a process. Raises LastroError for a command that cannot be split."""
    variables = [f"{name}={value}" for name, value in process.variables(PATH).items()]
    command = join(["/usr/bin/env", *variables, *arguments_of(process)])
    lines = [
        process.header(COMMENT),
        f"{COMMENT} Written by lastro.deploy. The variables come from the environment file when the process starts: no secret stands here.",
        "[Unit]",
        f"Description={plain(f'{process.app} {process.name}, slot {process.slot}, release {process.release}')}",
        "Wants=network-online.target",
        "After=network-online.target",
        "StartLimitIntervalSec=600",
        "StartLimitBurst=100",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={command}",
        f"WorkingDirectory={plain(str(process.directory))}",
        f"EnvironmentFile={plain(str(process.environment_file))}",
        *([f"User={plain(process.user)}"] if process.user else []),
        "Restart=on-failure",
        "RestartSec=2",
        "KillMode=mixed",
        f"TimeoutStopSec={process.stop_seconds or '1ms'}",
        *limits,
        *HARDENING,
        f"ProtectHome={'read-only' if any(map(process.root.is_relative_to, HOMES)) else 'yes'}",
        *([f"ReadWritePaths={' '.join(plain(quote(path)) for path in writable)}"] if writable else []),
        "",
        "[Install]",
        f"WantedBy={WANTED_BY}",
    ]
    return "\n".join(lines) + "\n"


def timer_text(app: str, state_dir: Path, name: str) -> str:
    """The file of a dead-man timer."""
    lines = [
        f"{COMMENT} Written by lastro.deploy: puts our change back on this host when nobody confirms it in time.",
        "[Unit]",
        f"Description={plain(f'{app} dead-man timer {name}')}",
        "Wants=network-online.target",
        "After=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={join([str(state_dir / 'bin' / 'dead_man.py'), 'run', str(state_dir / 'timers'), name])}",
        "Restart=on-failure",
        "RestartSec=1",
        "NoNewPrivileges=yes",
        "",
        "[Install]",
        f"WantedBy={WANTED_BY}",
    ]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """*text* as a value of a unit, in which %n and the like stand for something else."""
    return text.replace("%", "%%")


def join(arguments: t.Iterable[str]) -> str:
    """Arguments as ExecStart takes them: quoted where needed, and with neither % nor $ standing for something else."""
    return " ".join(plain(quote(argument)).replace("$", "$$") for argument in arguments)


def quote(word: str) -> str:
    """*word* as one word of a list in a unit."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'


def arguments_of(process: Process) -> list[str]:
    """The command as a list. Raises LastroError."""
    placed = process.placed()
    if not isinstance(placed, str):
        return list(placed)
    try:
        return shlex.split(placed)
    except ValueError as error:
        raise LastroError(
            f"The command of the process {process.name} has a quotation mark or backslash too many.",
            remedy=Text(en="Write the command as a list of arguments.", pt_BR="Escreva o comando como uma lista de argumentos."),
        ) from error


def limits_from(options: t.Mapping[str, t.Any]) -> list[str]:
    """The directives of a process's limits. Raises LastroError for a value that systemd would ignore."""
    wanted = {name: str(value) for name, value in (options["limits"] or {}).items() if value is not None}
    for name, value in wanted.items():
        if not LIMITS[name].takes(value):
            example = f"{name}: {LIMITS[name].example}"
            raise LastroError(
                f"limits.{name} of the process {options['process']} is {value!r}.",
                remedy=Text(en=f"Write it as in {example}.", pt_BR=f"Escreva como em {example}."),
            )
    return [f"{LIMITS[name].directive}={value}" for name, value in wanted.items()]


def check_environment(process: Process, *, needed: bool) -> None:
    """Raises LastroError where systemd would leave out a variable of the release, which it does without failing; where *needed*, also without a file."""
    if not needed and not process.environment_file.exists():
        return
    with reading(process.environment_file):
        try:
            variables = _environment_file.read(str(process.environment_file))
        except UnicodeDecodeError as error:
            raise OSError("it is not UTF-8") from error
    if bad := sorted(name for name, value in variables.items() if _CONTROL.search(value)):
        raise LastroError(
            f"systemd gives a process no value with a control character: {', '.join(bad)}.",
            remedy=Text(
                en="Take the character out of deploy_env (a carriage return, most often), or encode the value, and deploy again.",
                pt_BR="Tire o caractere de deploy_env (em geral um retorno de carro), ou codifique o valor, e faça o deploy de novo.",
            ),
        )


__all__ = ("COMMENT", "LIMITS", "WANTED_BY", "Limit", "check_environment", "join", "limits_from", "timer_text", "unit_text")
