# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the operator a text, in the language of the profile."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lastro.deploy.plugins.module_utils._texts_format import LANGUAGES, pick

display = Display()


class ActionModule(ActionBase):
    """See plugins/modules/say.py for the documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Display the text; no host is contacted."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _valid, options = self.validate_argument_spec(
            argument_spec={
                "en": {"type": "str", "required": True},
                "pt_BR": {"type": "str", "required": True},
                "language": {"type": "str", "choices": list(LANGUAGES)},
            }
        )
        language = options["language"] or self._templar.template((task_vars or {}).get("deploy_language", "en"))
        text = pick({name: options[name] for name in LANGUAGES}, language).rstrip()
        display.display(text)
        return {**result, "changed": False, "text": text}
