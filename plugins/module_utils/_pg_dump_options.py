# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the module C(pg_dump), checked before anything is looked at. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from pathlib import Path

from . import _backup_manifest, _backup_retention, _backup_upload, _secret_pipe
from ._argspec import ArgumentSpec
from ._backup_retention import Retention
from ._errors import LastroError, Text
from ._postgres import connection_argument_spec
from ._progress import progress_argument_spec
from ._rclone import Store

_TIMEOUT = re.compile(r"[1-9][0-9]*(?:ms|s|min)\Z")


class _Levels(t.NamedTuple):
    default: int
    most: int


_LEVELS = {"zstd": _Levels(3, 19), "gzip": _Levels(6, 9), "none": _Levels(1, 19)}


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of the module, checked."""

    dest: Path
    name: str
    run_id: str
    format: str
    jobs: int
    compression: str
    compression_level: int
    encryption: str
    recipients: tuple[str, ...]
    identity: str | None = dataclasses.field(repr=False)
    globals: str
    verify: str
    rehearsal_cluster: Path
    keep_copy: bool
    hashes: str
    retention: Retention
    store: Store | None
    lock_wait_timeout: str
    max_size_ratio: float
    bin_dir: str | None


def argument_spec() -> ArgumentSpec:
    """The module's options."""
    own = ArgumentSpec(
        options={
            "dest": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "run_id": {"type": "str", "default": ""},
            "format": {"type": "str", "default": "stream", "choices": ["stream", "directory"]},
            "jobs": {"type": "int", "default": 2},
            "compression": {"type": "str", "default": "zstd", "choices": ["zstd", "gzip", "none"]},
            "compression_level": {"type": "int"},
            "encryption": {"type": "str", "default": "age", "choices": ["age", "none"]},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "identity": {"type": "str", "no_log": True},
            "identity_pipe": {"type": "path"},
            "globals": {"type": "str", "default": "none", "choices": ["none", "without_passwords", "with_passwords"]},
            "verify": {"type": "str", "default": "decode", "choices": ["read", "decode", "restore"]},
            "rehearsal_cluster": {"type": "path", "default": "/var/tmp"},  # noqa: S108 - the cluster's directory in it is 0700 and has a random name
            "keep_copy": {"type": "bool", "default": False},
            "hashes": {"type": "str", "default": "rows", "choices": ["rows", "counts"]},
            "upload": _backup_upload.options(),
            "upload_config": {"type": "str", "no_log": True},
            "upload_config_pipe": {"type": "path"},
            "retention": _backup_retention.options(),
            "lock_wait_timeout": {"type": "str", "default": "10s"},
            "max_size_ratio": {"type": "float", "default": 4.0},
            "bin_dir": {"type": "path"},
        },
        mutually_exclusive=(("identity", "identity_pipe"), ("upload_config", "upload_config_pipe")),
    )
    return connection_argument_spec().merge(progress_argument_spec()).merge(own)


def options_from_params(params: t.Mapping[str, t.Any]) -> Options:
    """The options of ``argument_spec`` as one object. Raises LastroError for a value that cannot be meant."""
    options = Options(
        dest=Path(params["dest"]),
        rehearsal_cluster=Path(params["rehearsal_cluster"]),
        compression_level=_level(params["compression"], params["compression_level"]),
        retention=_backup_retention.from_params(params["retention"]),
        store=_backup_upload.store_from_params(params["upload"], _config_of(params)),
        recipients=tuple(recipient.strip() for recipient in params["recipients"]),
        **{
            name: params[name]
            for name in (field.name for field in dataclasses.fields(Options))
            if name not in {"dest", "rehearsal_cluster", "compression_level", "retention", "store", "recipients"}
        },
    )
    if params["identity_pipe"]:
        options = dataclasses.replace(options, identity=_secret_pipe.take(Path(params["identity_pipe"])))
    problem = _problem(options)
    if problem:
        raise LastroError(problem.en, remedy=Text(en="Correct the option.", pt_BR=f"Corrija a opção: {problem.pt_BR}"))
    return options


def _config_of(params: t.Mapping[str, t.Any]) -> str:
    """The settings of the store that come apart from the option that names it; "" where they do not. A pipe is read before that of the identity."""
    pipe = params["upload_config_pipe"]
    return _secret_pipe.take(Path(pipe)) if pipe else params["upload_config"] or ""


def _level(compression: str, level: int | None) -> int:
    return _LEVELS[compression].default if level is None else level


def _problem(options: Options) -> Text | None:
    return next((text for wrong, text in (*_values(options), *_combinations(options)) if wrong), None)


def _values(options: Options) -> tuple[tuple[bool, Text], ...]:
    """Whether each option on its own is wrong, and what to say then."""
    most = _LEVELS[options.compression].most
    return (
        (
            not _backup_manifest.NAME.match(options.name),
            Text(
                f"name is {options.name!r}: letters, digits, dot, dash and underscore are allowed, at most 100 of them, the first a letter or digit.",
                f"name é {options.name!r}: use até 100 letras, dígitos, ponto, hífen e sublinhado, começando por letra ou dígito.",
            ),
        ),
        (
            not _TIMEOUT.match(options.lock_wait_timeout),
            Text(
                f"lock_wait_timeout is {options.lock_wait_timeout!r}: a number with ms, s or min is expected, for example 10s.",
                f"lock_wait_timeout é {options.lock_wait_timeout!r}: use um número com ms, s ou min, por exemplo 10s.",
            ),
        ),
        (
            not 1 <= options.compression_level <= most,
            Text(
                f"compression_level is {options.compression_level}: 1 to {most} are allowed with {options.compression}.",
                f"compression_level é {options.compression_level}: use de 1 a {most} com {options.compression}.",
            ),
        ),
        (
            not 1 <= options.jobs <= _backup_manifest.MOST_PARTS,
            Text(
                f"jobs is {options.jobs}: 1 to {_backup_manifest.MOST_PARTS} are allowed.", f"jobs é {options.jobs}: use de 1 a {_backup_manifest.MOST_PARTS}."
            ),
        ),
        (
            options.max_size_ratio != 0 and options.max_size_ratio <= 1,
            Text(f"max_size_ratio is {options.max_size_ratio}: more than 1 is expected, or 0 for no check.", "max_size_ratio deve ser maior que 1, ou 0."),
        ),
    )


def _combinations(options: Options) -> tuple[tuple[bool, Text], ...]:
    """Whether options contradict each other, and what to say then."""
    return (
        (
            options.encryption == "age" and not options.recipients,
            Text(
                "encryption is age, but recipients is empty; a backup in clear text must be asked for with encryption: none.",
                "encryption é age, mas recipients está vazio; um backup sem criptografia precisa ser pedido com encryption: none.",
            ),
        ),
        (
            options.encryption == "none" and bool(options.recipients),
            Text("recipients are given, but encryption is none.", "há recipients, mas encryption é none."),
        ),
        (
            options.globals == "with_passwords" and options.encryption == "none",
            Text(
                "globals: with_passwords is asked for with encryption: none; password hashes are not stored in clear.",
                "globals: with_passwords foi pedido com encryption: none; os hashes de senhas não são gravados sem criptografia.",
            ),
        ),
        (
            options.format == "directory" and options.verify == "restore" and options.encryption == "age" and not options.identity,
            Text(
                "verify: restore of format: directory needs identity: streams that run at once cannot be restored along.",
                "verify: restore com format: directory exige identity: fluxos simultâneos não podem ser restaurados enquanto são gerados.",
            ),
        ),
        (
            options.keep_copy and options.verify != "restore",
            Text("keep_copy is asked for, but only verify: restore makes a copy.", "keep_copy foi pedido, mas só verify: restore faz uma cópia."),
        ),
    )


__all__ = ("Options", "argument_spec", "options_from_params")
