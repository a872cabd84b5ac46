# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling consumers that a key changed, by webhook or Redis channel: which one and when, never the key. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ._errors import LastroError, Text
from ._http import RequestFailedError, ask, open_session, redact_url, url_problem
from ._service_probe_kinds import Target, redis_client, resolve

TIMEOUT = 5.0


@dataclasses.dataclass(frozen=True)
class Channels:
    """Where to tell it; the URLs are not in ``repr``, since they may hold a password or be one."""

    webhook: str = dataclasses.field(default="", repr=False)
    redis_url: str = dataclasses.field(default="", repr=False)
    channel: str = ""


def channels_from_params(options: t.Mapping[str, t.Any] | None) -> Channels:
    """The channels of the option C(notify). Raises LastroError for a webhook that is no URL."""
    found = Channels(**{name: value for name, value in (options or {}).items() if value})
    problem = url_problem(found.webhook) if found.webhook else ""
    if problem:
        raise LastroError(f"notify.webhook {problem}.", remedy=Text(en="Give it the form https://host/path.", pt_BR="Use a forma https://host/caminho."))
    return found


def notify(channels: Channels, event: t.Mapping[str, t.Any]) -> tuple[list[str], list[str]]:
    """(channels that took the event, what went wrong with the others). It never raises: the key has changed by now."""
    told: list[str] = []
    problems: list[str] = []
    for name, address, tell in (("webhook", channels.webhook, _tell_webhook), ("redis", channels.redis_url, _tell_redis)):
        if not address:
            continue
        try:
            tell(channels, event)
        except LastroError as error:
            problems.append(f"{name}: {error.message}")
        else:
            told.append(name)
    return told, problems


def _tell_webhook(channels: Channels, event: t.Mapping[str, t.Any]) -> None:
    remedy = Text(en="Tell the consumers by hand.", pt_BR="Avise os consumidores manualmente.")
    host = redact_url(channels.webhook).split("/")[2]  # a path may be a secret
    try:
        answer = ask(open_session(), channels.webhook, method="POST", json=dict(event), timeout=TIMEOUT)
    except RequestFailedError as error:
        raise LastroError(f"{host} was not told: {error}", remedy=remedy) from None
    if not 200 <= answer.status < 300:
        raise LastroError(f"{host} answered {answer.status}", remedy=remedy)


def _tell_redis(channels: Channels, event: t.Mapping[str, t.Any]) -> None:
    target = resolve(Target(name="notify", kind="redis", url=channels.redis_url, timeout=TIMEOUT))
    with redis_client(target, command="PUBLISH") as client:
        client.publish(channels.channel, json.dumps(event))


__all__ = ("Channels", "channels_from_params", "notify")
