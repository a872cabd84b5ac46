# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queries of the reports on indexes, for PostgreSQL 12 to 18; each returns one JSON array as text. PRIVATE to the collection."""

from __future__ import annotations

from ._index_validation_sql import BUILDING, BUILDS

_USER = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

# A partitioned index is judged by its partitions elsewhere; here it is listed where a partition has no index of it. TOAST's indexes count:
# REINDEX CONCURRENTLY leaves those too.
INVALID = f"""
WITH builds AS MATERIALIZED ({BUILDS})
SELECT COALESCE(jsonb_agg(x ORDER BY x.schema, x.index), '[]') FROM (
  SELECT n.nspname AS schema, t.relname AS "table", ic.relname AS index, i.indisvalid AS valid, i.indisready AS ready, i.indislive AS live,
         ic.relkind = 'I' AS partitioned, pg_relation_size(ic.oid) AS bytes, {BUILDING.replace("%%", "%")} AS building
  FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
  WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND n.nspname !~ '^pg_(temp|toast_temp)_'
) x
"""  # noqa: S608

# What one index has and another has too. Never proposed: constraints' indexes, replica identities, clustered ones, targets of foreign keys, partitions'.
DUPLICATES = f"""
WITH ix AS (
  SELECT i.*, ic.relname AS name, t.relname AS tbl, n.nspname AS sch, am.amname,
    ARRAY(SELECT concat_ws(' ', CASE WHEN i.indkey[g-1] = 0 THEN pg_get_indexdef(i.indexrelid, g, false) ELSE i.indkey[g-1]::text END,
                                i.indclass[g-1], i.indcollation[g-1], i.indoption[g-1]) FROM generate_series(1, i.indnkeyatts) g) AS keys,
    ARRAY(SELECT i.indkey[g-1] FROM generate_series(i.indnkeyatts + 1, i.indnatts) g) AS included,
    ARRAY(SELECT i.indkey[g-1] FROM generate_series(1, i.indnatts) g WHERE i.indkey[g-1] <> 0) AS columns,
    COALESCE(pg_get_expr(i.indpred, i.indrelid), '') AS predicate, COALESCE((to_jsonb(i)->>'indnullsnotdistinct')::bool, false) AS nulls,
    EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')) AS backed,
    EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype = 'f') AS target
  FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am am ON am.oid = ic.relam
  WHERE {_USER} AND NOT ic.relispartition
)
SELECT COALESCE(jsonb_agg(x ORDER BY x.bytes DESC, x.index), '[]') FROM (
  SELECT DISTINCT ON (a.indexrelid) a.sch AS schema, a.tbl AS "table", a.name AS index, b.name AS covered_by,
         CASE WHEN a.keys = b.keys THEN 'duplicate' ELSE 'prefix' END AS kind, pg_relation_size(a.indexrelid) AS bytes
  FROM ix a JOIN ix b ON a.indrelid = b.indrelid AND a.indexrelid <> b.indexrelid AND a.amname = b.amname AND a.predicate = b.predicate
                     AND b.indisvalid AND a.included <@ b.columns
  WHERE NOT (a.backed OR a.target OR a.indisprimary OR a.indisexclusion OR a.indisreplident OR a.indisclustered)
    AND ((a.keys = b.keys AND (NOT a.indisunique OR (b.indisunique AND a.nulls = b.nulls))
          AND (b.backed OR (b.indisunique AND NOT a.indisunique) OR cardinality(b.included) > cardinality(a.included)
               OR (a.indisunique = b.indisunique AND cardinality(b.included) = cardinality(a.included) AND a.indexrelid > b.indexrelid)))
      OR (a.amname = 'btree' AND NOT a.indisunique AND a.indnkeyatts < b.indnkeyatts AND a.keys = b.keys[1:a.indnkeyatts]))
  ORDER BY a.indexrelid, (a.keys = b.keys) DESC, b.name
) x
"""  # noqa: S608

# A partitioned index is as used as its partitions' together. A uniqueness that nobody reads is used all the same.
UNUSED = f"""
WITH RECURSIVE tree AS (
  SELECT ic.oid AS root, ic.oid AS part FROM pg_class ic WHERE ic.relkind IN ('i', 'I') AND NOT ic.relispartition
  UNION ALL SELECT tree.root, h.inhrelid FROM tree JOIN pg_inherits h ON h.inhparent = tree.part
), counted AS (
  SELECT tree.root, COALESCE(sum(pg_stat_get_numscans(tree.part)), 0) AS scans, sum(pg_relation_size(tree.part)) AS bytes FROM tree GROUP BY tree.root
)
SELECT jsonb_build_object(
  'since', (SELECT COALESCE(stats_reset, pg_postmaster_start_time()) FROM pg_stat_database WHERE datname = current_database()),
  'age_days', (SELECT extract(epoch FROM now() - COALESCE(stats_reset, pg_postmaster_start_time())) / 86400
               FROM pg_stat_database WHERE datname = current_database()),
  'rows', COALESCE((SELECT jsonb_agg(x ORDER BY x.bytes DESC, x.index) FROM (
    SELECT n.nspname AS schema, t.relname AS "table", ic.relname AS index, c.scans::bigint, c.bytes::bigint
    FROM counted c JOIN pg_class ic ON ic.oid = c.root JOIN pg_index i ON i.indexrelid = ic.oid
    JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE {_USER} AND i.indisvalid AND NOT (i.indisunique OR i.indisexclusion OR i.indisreplident)
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = ic.oid)
  ) x), '[]'))
"""  # noqa: S608

# One index must begin with the key's columns, in any order among them.
MISSING_FK = f"""
SELECT COALESCE(jsonb_agg(x ORDER BY x.bytes DESC, x.constraint), '[]') FROM (
  SELECT n.nspname AS schema, t.relname AS "table", c.conname AS "constraint", c.confrelid::regclass::text AS refers_to, pg_relation_size(t.oid) AS bytes,
         (SELECT jsonb_agg(a.attname ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place)
          JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) AS columns
  FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
  WHERE c.contype = 'f' AND c.conparentid = 0 AND {_USER} AND NOT EXISTS (
    SELECT FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
    WHERE i.indrelid = c.conrelid AND i.indisvalid AND am.amname IN ('btree', 'hash')
      AND (i.indpred IS NULL OR (cardinality(c.conkey) = 1 AND pg_get_expr(i.indpred, i.indrelid) = (
             SELECT format('(%I IS NOT NULL)', a.attname) FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attnum = c.conkey[1])))
      AND (SELECT array_agg(k ORDER BY k) FROM unnest((i.indkey::int2[])[0:cardinality(c.conkey) - 1]) k)
        = (SELECT array_agg(k ORDER BY k) FROM unnest(c.conkey) k))
) x
"""  # noqa: S608

_BTREES = f"""
  SELECT ic.oid, n.nspname AS schema, t.relname AS "table", ic.relname AS index, pg_relation_size(ic.oid) AS bytes, ic.reltuples, i.indexrelid, i.indrelid,
         i.indkey, i.indnatts, COALESCE(substring(array_to_string(ic.reloptions, ' ') FROM 'fillfactor=([0-9]+)')::int, 90) AS fill
  FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid AND ic.relkind = 'i' JOIN pg_am am ON am.oid = ic.relam AND am.amname = 'btree'
  JOIN pg_class t ON t.oid = i.indrelid AND t.relpersistence <> 't' JOIN pg_namespace n ON n.oid = t.relnamespace
  WHERE {_USER} AND i.indisvalid AND pg_relation_size(ic.oid) >= {{min_bytes}}
  ORDER BY pg_relation_size(ic.oid) DESC LIMIT {{limit}}
"""  # noqa: S608

# avg_leaf_density of an index without bloat is its fill factor.
BLOAT_EXACT = f"""
SELECT COALESCE(jsonb_agg(x ORDER BY x.bytes DESC), '[]') FROM (
  SELECT b.schema, b."table", b.index, b.bytes, round((100 * greatest(0, 1 - s.avg_leaf_density / b.fill))::numeric, 1) AS percent
  FROM ({_BTREES}) b, LATERAL pgstatindex(b.oid::regclass) s WHERE s.avg_leaf_density <> 'NaN'
) x
"""  # noqa: S608

# The idea is that of ioguix' pgsql-bloat-estimation (BSD-2): pages that the rows need by the statistics' average widths, against those that there are.
# A tuple has a header of 8 bytes (16 with NULLs), its columns, padding to 8, and a line pointer of 4; a page has 8 KiB less 24 and 16 of its own.
BLOAT_ESTIMATE = f"""
SELECT COALESCE(jsonb_agg(x ORDER BY x.bytes DESC), '[]') FROM (
  SELECT w.schema, w."table", w.index, w.bytes,
         CASE WHEN w.width IS NULL OR w.reltuples < 0 THEN NULL ELSE round((100 * greatest(0, 1 -
           (1 + ceil(w.reltuples / floor((bs.size - 40) * w.fill / 100.0 / (4 + w.width)))) * bs.size / w.bytes))::numeric, 1) END AS percent
  FROM (
    SELECT b.*, (
      SELECT CASE WHEN count(s.avg_width) = b.indnatts THEN 8 * ceil((CASE WHEN max(s.null_frac) > 0 THEN 16 ELSE 8 END
                                                                      + sum((1 - s.null_frac) * s.avg_width)) / 8) END
      FROM generate_series(1, b.indnatts) g
      JOIN pg_attribute ia ON ia.attrelid = b.indexrelid AND ia.attnum = g
      LEFT JOIN pg_attribute a ON a.attrelid = b.indrelid AND a.attnum = b.indkey[g-1] AND b.indkey[g-1] <> 0
      LEFT JOIN pg_stats s ON s.schemaname = b.schema AND NOT s.inherited
        AND ((a.attname IS NOT NULL AND s.tablename = b."table" AND s.attname = a.attname)
          OR (a.attname IS NULL AND s.tablename = b.index AND s.attname = ia.attname))
    ) AS width FROM ({_BTREES}) b
  ) w, (SELECT current_setting('block_size')::numeric AS size) bs
) x
"""  # noqa: S608


def with_extension(name: str) -> str:
    """The statement that puts an extension's schema into the search path."""
    schema = f"(SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = '{name}')"  # noqa: S608
    return f"SELECT set_config('search_path', concat_ws(', ', NULLIF(current_setting('search_path'), ''), {schema}), true)"


def slow(version: int, mean_ms: float, limit: int) -> str:
    """Statements of this database by their total time; *version* is the server's as a number."""
    total, mean = ("total_exec_time", "mean_exec_time") if version >= 130000 else ("total_time", "mean_time")
    # Numbers of our own, and names of columns: nothing here comes from a user as text.
    return f"""
SELECT COALESCE(jsonb_agg(x ORDER BY x.total_ms DESC), '[]') FROM (
  SELECT s.query, s.calls, round(s.{mean}::numeric, 3) AS mean_ms, round(s.{total}::numeric, 3) AS total_ms
  FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
  WHERE s.{mean} >= {float(mean_ms)} AND s.query ~* '^\\s*(select|insert|update|delete|with|merge)\\M' AND s.query !~ '(lastro|pg_stat_|pg_catalog)'
  ORDER BY s.{total} DESC LIMIT {int(limit)}
) x
"""  # noqa: S608


__all__ = ("BLOAT_ESTIMATE", "BLOAT_EXACT", "DUPLICATES", "INVALID", "MISSING_FK", "UNUSED", "slow", "with_extension")
