# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, sizes, durations and times in the notation of each language. PRIVATE to the collection."""

from __future__ import annotations

import datetime
import typing as t

from ._clock import from_text
from ._errors import LastroError, Text

Language = t.Literal["en", "pt_BR"]
LANGUAGES: tuple[Language, ...] = ("en", "pt_BR")

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def check_language(language: str) -> Language:
    """*language* as one of ``LANGUAGES``. Raises LastroError."""
    for known in LANGUAGES:
        if known == language:
            return known
    raise LastroError(
        f"deploy_language is {language!r}, which is no language of lastro.deploy.",
        remedy=Text(en="Set deploy_language to en or pt_BR.", pt_BR="Defina deploy_language como en ou pt_BR."),
    )


def pick(text: object, language: str) -> str:
    """The sentence in *language* of a Text, a mapping ``{en, pt_BR}`` or a plain string; "" for nothing."""
    if isinstance(text, Text):
        text = text._asdict()
    if isinstance(text, t.Mapping):
        return str(text.get(language) or text.get("en") or "")
    return "" if text is None else str(text)


def say(language: str, en: str, pt_br: str) -> str:
    """The one of two sentences that *language* asks for."""
    return pt_br if language == "pt_BR" else en


def format_number(value: float, language: str = "en", *, decimals: int = 0) -> str:
    """1,234.5 in English, 1.234,5 in Portuguese."""
    text = f"{value:,.{decimals}f}"
    return text.translate(str.maketrans(",.", ".,")) if language == "pt_BR" else text


def counted(count: int, language: str, en: tuple[str, str], pt_br: tuple[str, str]) -> str:
    """A number with its noun, each noun given as (one, many): "1 table", "2 tables"."""
    one, many = pt_br if language == "pt_BR" else en
    return f"{format_number(count, language)} {one if count == 1 else many}"


def format_size(size: float, language: str = "en") -> str:
    """Bytes in powers of ten: 812 B, 18 kB, 1.2 GB."""
    value, unit = float(size), 0
    while round(value) >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    decimals = 1 if unit and round(value, 1) < 10 else 0
    return f"{format_number(value, language, decimals=decimals)} {_UNITS[unit]}"


def format_duration(seconds: float | None, language: str = "en") -> str:
    """0.4 s, 2m 05s, 1h 02m; "" where it is not known."""
    if seconds is None:
        return ""
    if round(seconds, 1) < 60:
        return f"{format_number(max(seconds, 0.0), language, decimals=1)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def format_time(text: str, language: str = "en") -> str:
    """A time of the journal for readers, in UTC to the second; *text* itself where it is no time."""
    try:
        moment = from_text(text).astimezone(datetime.UTC)
    except ValueError:
        return text
    return moment.strftime(say(language, "%Y-%m-%d %H:%M:%S UTC", "%d/%m/%Y %H:%M:%S UTC"))


def shortened(text: str, limit: int) -> str:
    """The first line of *text*, at most *limit* characters, an ellipsis included."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= limit else first[: limit - 1].rstrip() + "…"


__all__ = (
    "LANGUAGES",
    "Language",
    "check_language",
    "counted",
    "format_duration",
    "format_number",
    "format_size",
    "format_time",
    "pick",
    "say",
    "shortened",
)
