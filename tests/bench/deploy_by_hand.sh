#!/usr/bin/env bash
# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a person does who goes through the checklist of calendar-api with a shell: r2 in place of r1, on one host, in the same order as the checklist.
# It prints the seconds of each step. SSH_OPTIONS, HOST, LIVE (the release that serves, below /opt/calendar-api/releases), REPOSITORY, WHEELS (a tar
# file), URL and CA_CERT come by the environment.
set -euo pipefail

work=$(mktemp -d)
read -r -a options <<<"$SSH_OPTIONS -o ControlMaster=auto -o ControlPersist=60s -o ControlPath=$work/%C"
trap 'ssh "${options[@]}" -O exit "$HOST" 2>/dev/null || true; rm -rf "$work"' EXIT

on_host() { # runs what it reads on the host, as root, with the variables of the application
    { echo "set -euo pipefail; set -a; . /opt/calendar-api/env/$LIVE.env; set +a; LIVE=$LIVE URL=$URL CA_CERT=$CA_CERT; new=/opt/calendar-api/releases/r2-by-hand"; cat; } |
        ssh "${options[@]}" "$HOST" sudo bash -s
}
step() { # NAME: the seconds since the step before
    now=$(date +%s.%N)
    [ -z "${name:-}" ] || awk -v name="$name" -v a="$began" -v b="$now" 'BEGIN { printf "%s %.2f\n", name, b - a }'
    name=$1 began=$now
}

step variables
on_host <<'END'
python3 - <<'CHECK'
import base64, os
assert len(base64.urlsafe_b64decode(os.environ["TOKEN_ENCRYPTION_KEY"])) == 32
assert len(os.environ["SECRET_KEY"]) >= 32 and os.environ["GOOGLE_CLIENT_ID"] and os.environ["GOOGLE_CLIENT_SECRET"]
CHECK
[ "$(redis-cli --no-auth-warning -u "${REDIS_URL/:\/\/:/://default:}" ping)" = PONG ]
psql -qAt -c 'SELECT 1' "$DATABASE_URL" >/dev/null
END

step backup
on_host <<'END'
umask 077
mkdir -p /var/backups/by-hand
pg_dump --format=custom --file=/var/backups/by-hand/before-r2.dump "$DATABASE_URL"
pg_restore --list /var/backups/by-hand/before-r2.dump | grep -q 'TABLE DATA public credentials'
sha256sum /var/backups/by-hand/before-r2.dump >/var/backups/by-hand/before-r2.sha256
END

step copy
git -C "$REPOSITORY" archive --format=tar.gz --output="$work/r2.tar.gz" r2
scp -q "${options[@]}" "$work/r2.tar.gz" "$WHEELS" "$HOST:"

step install
on_host <<END
wheels=/home/ops/${WHEELS##*/}
$(cat <<'REST'
mkdir "$new" /var/tmp/by-hand
tar -C "$new" -xzf /home/ops/r2.tar.gz
tar -C /var/tmp/by-hand -xf "$wheels"
python3 -m venv "$new/venv"
"$new/venv/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links /var/tmp/by-hand --requirement "$new/requirements.txt"
rm -rf /var/tmp/by-hand
cp -p "/opt/calendar-api/env/$LIVE.env" /opt/calendar-api/env/r2-by-hand.env
REST
)
END

step migrate
on_host <<'END'
cd "$new"
venv/bin/alembic upgrade head 2>/dev/null
[ "$(venv/bin/alembic current 2>/dev/null)" = '0004 (head)' ]
psql -qAt -c "SELECT count(*) FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid WHERE t.relname = 'bookings' AND i.indisunique AND i.indisvalid" \
    "$DATABASE_URL" | grep -qx 2
END

step encrypt
on_host <<'END'
cd "$new"
umask 077
venv/bin/python - <<'ENCRYPT'
import base64, json, os
import psycopg2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg2.extras import execute_batch

cipher = AESGCM(base64.urlsafe_b64decode(os.environ["TOKEN_ENCRYPTION_KEY"]))
with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT id, token FROM credentials WHERE token IS NOT NULL AND token_encrypted IS NULL")
    found = cursor.fetchall()
    with open("/var/backups/by-hand/tokens.json", "w") as file:
        json.dump(found, file)
    rows = [(nonce, cipher.encrypt(nonce, token.encode(), None), number) for number, token in found for nonce in [os.urandom(12)]]
    execute_batch(cursor, "UPDATE credentials SET token_nonce = %s, token_encrypted = %s WHERE id = %s", rows, page_size=1000)
with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM credentials WHERE token IS NOT NULL AND (token_encrypted IS NULL OR token_nonce IS NULL)")
    assert cursor.fetchone() == (0,)
ENCRYPT
END

step restart
on_host <<'END'
sed -i "s#$LIVE#r2-by-hand#g" /etc/systemd/system/calendar-api-web-*.service
systemctl daemon-reload
systemctl restart 'calendar-api-web-*'
for _ in $(seq 300); do
    curl --silent --fail --cacert "$CA_CERT" "$URL/health" 2>/dev/null | grep -q r2-by-hand && exit
    sleep 0.1
done
exit 1
END

step check
on_host <<'END'
ask() { curl --silent --output /dev/null --write-out '%{http_code}' --cacert "$CA_CERT" "$@"; }
book() { ask --header 'Content-Type: application/json' --data '{"user_id": 1, "slot": "1970-01-01 by hand"}' "$URL/api/bookings"; }
[ "$(ask "$URL/health")" = 200 ]
[ "$(ask "$URL/ready")" = 200 ]
[ "$(ask "$URL/api/schedule?day=2026-01-01")" = 200 ]
[ "$(ask "$URL/api/users/1/token-check")" = 200 ]
[ "$(ask --request POST "$URL/api/users/1/renew")" = 200 ]
[ "$(book)" = 201 ]
[ "$(book)" = 409 ]
systemctl is-active --quiet 'calendar-api-web-*'
END
step end
