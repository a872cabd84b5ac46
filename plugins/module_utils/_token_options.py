# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What token_encryption and token_encryption_info can be asked for. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._postgres import connection_argument_spec
from ._progress import progress_argument_spec
from ._token_columns import Names, columns_argument_spec, names_from_params
from ._token_errors import no_key
from ._token_keys import keys_from_params
from ._token_undo import Place

State = t.Literal["prepared", "encrypted", "rotated", "cleared", "decrypted"]
Shadow = t.Literal["none", "filled", "swapped", "dropped"]
Verify = t.Literal["none", "sample", "all"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What token_encryption was asked for. Seconds in *pause* and *lock_timeout*."""

    names: Names
    keys: tuple[bytes, ...] = dataclasses.field(repr=False)
    state: State
    guard_trigger: bool
    batch_size: int
    pause: float
    lock_timeout: float
    workers: int
    max_replica_lag: float
    accept_encrypted_looking: bool
    accept_loss: bool
    shadow: Shadow
    scrub: t.Literal["none", "vacuum_full"]
    accept_dependents: list[str]
    backup: Place | None
    application_name: str
    check_mode: bool

    @property
    def writes_backup(self) -> bool:
        """Whether clear tokens go to the undo file: C(decrypted) reads it."""
        return self.backup is not None and self.state != "decrypted"

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any], *, check_mode: bool) -> Options:
        """The options of ``token_encryption_argument_spec``. Raises LastroError for keys and numbers that will not do."""
        for option, least in (("batch_size", 1), ("workers", 1), ("pause", 0), ("max_replica_lag", 0), ("lock_timeout", 0.001)):
            if params[option] < least:
                raise LastroError(
                    f"{option} is {params[option]}; it must be at least {least}.",
                    remedy=Text(en="Leave the option out to get its default.", pt_BR="Omita a opção para usar o valor padrão."),
                )
        if params["shadow"] != "none" and (params["hash_column"] or params["key_id_column"]):
            raise LastroError(
                "shadow goes without hash_column and key_id_column.",
                remedy=Text(
                    en="An application that reads those has a key ring: rotate in place, with shadow: none.",
                    pt_BR="Uma aplicação que lê essas colunas tem um chaveiro: faça a rotação no lugar, com shadow: none.",
                ),
            )
        return cls(
            names=names_from_params(params),
            # The trigger goes in and out without a key: a rollback needs that when the key is what was wrong.
            keys=() if params["state"] == "prepared" else keys_from_params(params),
            backup=Place.from_params(params["backup"], reads=params["state"] == "decrypted"),
            check_mode=check_mode,
            **{name: params[name] for name in _OWN_OPTIONS},
            application_name=params["application_name"],
        )


_OWN_OPTIONS = (
    "state",
    "guard_trigger",
    "batch_size",
    "pause",
    "lock_timeout",
    "workers",
    "max_replica_lag",
    "accept_encrypted_looking",
    "accept_loss",
    "shadow",
    "scrub",
    "accept_dependents",
)


def token_encryption_argument_spec() -> ArgumentSpec:
    """The options of the module token_encryption."""
    own = ArgumentSpec(
        {
            "state": {"type": "str", "default": "encrypted", "choices": ["prepared", "encrypted", "rotated", "cleared", "decrypted"]},
            "guard_trigger": {"type": "bool", "default": True},
            "batch_size": {"type": "int", "default": 1000},
            "pause": {"type": "float", "default": 0.0},
            "lock_timeout": {"type": "float", "default": 2.0},
            "workers": {"type": "int", "default": 1},
            "max_replica_lag": {"type": "float", "default": 0.0},
            "accept_encrypted_looking": {"type": "bool", "default": False},
            "shadow": {"type": "str", "default": "none", "choices": ["none", "filled", "swapped", "dropped"]},
            "scrub": {"type": "str", "default": "none", "choices": ["none", "vacuum_full"]},
            "accept_dependents": {"type": "list", "elements": "str", "default": []},
            "accept_loss": {"type": "bool", "default": False},
            "backup": {
                "type": "dict",
                "options": {
                    "path": {"type": "path", "required": True},
                    "recipients": {"type": "list", "elements": "str", "default": []},
                    "identity": {"type": "str", "no_log": True},
                },
            },
        }
    )
    return connection_argument_spec().merge(columns_argument_spec()).merge(progress_argument_spec()).merge(own)


def token_encryption_info_argument_spec() -> ArgumentSpec:
    """The options of the module token_encryption_info."""
    own = ArgumentSpec({"verify": {"type": "str", "default": "none", "choices": ["none", "sample", "all"]}})
    return connection_argument_spec().merge(columns_argument_spec()).merge(progress_argument_spec()).merge(own)


@dataclasses.dataclass(frozen=True)
class Question:
    """What token_encryption_info was asked for."""

    names: Names
    keys: tuple[bytes, ...] = dataclasses.field(repr=False)
    verify: Verify
    application_name: str

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Question:
        """The options of ``token_encryption_info_argument_spec``. Raises LastroError for keys that are missing or will not do."""
        keys = () if params["verify"] == "none" else keys_from_params(params)
        if params["verify"] != "none" and not keys:
            raise no_key()
        return cls(names=names_from_params(params), keys=keys, verify=params["verify"], application_name=params["application_name"])


__all__ = ("Options", "Question", "State", "Verify", "token_encryption_argument_spec", "token_encryption_info_argument_spec")
