#!/bin/sh
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Inventory script: the facts of the demo's servers (demo_state), read once; {} where `make demo` has not made them yet.
set -eu
file=${LASTRO_DEMO_STATE:-$(dirname "$0")/../../.demo/state.json}
state=$(cat "$file" 2>/dev/null) || state='{}'
printf '{"_meta": {"hostvars": {}}, "all": {"vars": {"demo_state": %s}}}\n' "$state"
