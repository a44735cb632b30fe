Hostile and ordinary SQL, and what must become of it. The format is described in package corpus.
Tables known to the tests: t, u, orders, "access-log".

--- OK the simplest
SELECT 1
--- OK
SELECT * FROM t
--- OK
FROM t
--- OK
FROM t SELECT a WHERE b > 1
--- OK trailing semicolons
SELECT 1 ; ;
--- OK leading semicolon and comments
;-- nothing
/* a /* nested */ comment */ SELECT 1 -- end
--- OK
TABLE t
--- OK
VALUES (1, 'a'), (2, 'b')
--- OK
SELECT * FROM (VALUES (1, 'a')) v(n, s)
--- OK
SELECT a, count(*), sum(b) FILTER (WHERE b > 0) FROM t GROUP BY a HAVING count(*) > 1 ORDER BY 2 DESC NULLS LAST LIMIT 10 OFFSET 5
--- OK
SELECT a FROM t GROUP BY ALL ORDER BY ALL
--- OK
SELECT a, b, grouping(a) FROM t GROUP BY GROUPING SETS ((a), (a, b), ()), ROLLUP (a), CUBE (b)
--- OK
SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b
--- OK
SELECT row_number() OVER (PARTITION BY a ORDER BY b), rank() OVER w, dense_rank() OVER w, ntile(4) OVER w, percent_rank() OVER w, cume_dist() OVER w, lag(b, 1, 0) OVER w, lead(b) OVER w, first_value(b) OVER w, last_value(b) OVER w, nth_value(b, 2) OVER w, fill(b) OVER w FROM t WINDOW w AS (ORDER BY b)
--- OK
SELECT sum(DISTINCT b) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES), avg(b) FILTER (WHERE a > 1) OVER (ORDER BY b RANGE UNBOUNDED PRECEDING), max(b) OVER (ORDER BY b GROUPS BETWEEN CURRENT ROW AND 2 FOLLOWING) FROM t QUALIFY row_number() OVER (ORDER BY a) = 1
--- OK
SELECT * FROM t JOIN u USING (a) LEFT JOIN orders o ON o.a = t.a NATURAL JOIN "access-log"
--- OK
SELECT * FROM t ASOF JOIN u ON t.b >= u.b
--- OK
SELECT * FROM t POSITIONAL JOIN u
--- OK
SELECT * FROM t SEMI JOIN u USING (a)
--- OK
SELECT * FROM t ANTI JOIN u USING (a)
--- OK
SELECT * FROM t FULL OUTER JOIN u ON t.a = u.a RIGHT JOIN orders x ON x.a = u.a CROSS JOIN orders y
--- OK
SELECT * FROM t, LATERAL (SELECT t.a + 1) l(b), unnest([1, 2]) x(n)
--- OK
SELECT * FROM range(10) r(i), generate_series(1, 3) g(j), repeat('x', 3)
--- OK
SELECT * FROM json_each('{"a": 1}'), json_tree('[1]')
--- OK
SELECT unnest([1, 2, 3]), unnest({'a': 1}), unnest([[1]], recursive := true)
--- OK
WITH a AS (SELECT 1 AS x), b AS MATERIALIZED (FROM a), c AS NOT MATERIALIZED (FROM b) FROM c
--- OK
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 10) SELECT sum(n) FROM r
--- OK
WITH RECURSIVE r(k, n) USING KEY (k) AS (SELECT 1, 1 UNION SELECT r.k, r.n + 1 FROM r, recurring.r q WHERE r.n < 3) FROM r
--- OK
SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3 INTERSECT SELECT 4
--- OK
(SELECT a FROM t ORDER BY a LIMIT 1) UNION ALL BY NAME (FROM u LIMIT 10%)
--- OK
SELECT CASE a WHEN 1 THEN 'x' ELSE 'y' END, CASE WHEN a > 1 THEN 2 END, if(a > 1, 2, 3), coalesce(a, b), nullif(a, b), ifnull(a, b), try(1 / 0) FROM t
--- OK
SELECT a BETWEEN 1 AND 2, a NOT BETWEEN 1 AND 2, a IN (1, 2), a NOT IN (SELECT 1), a IS NULL, a IS NOT NULL, a IS DISTINCT FROM b, a IS NOT DISTINCT FROM b, NOT a, -a, +a, ~1 FROM t
--- OK
SELECT a > ALL (FROM u), a = ANY (FROM u), EXISTS (FROM u), NOT EXISTS (FROM u), (SELECT max(a) FROM u), (a, b) = (SELECT 1, 2), ARRAY(SELECT 1) FROM t
--- OK
SELECT s LIKE 'x%', s NOT LIKE 'x%', s ILIKE 'x', s NOT ILIKE 'x', s SIMILAR TO 'x', s GLOB 'x*', s ~ 'x', s !~ 'x', s LIKE 'x' ESCAPE '!', s ^@ 'x', s COLLATE nocase, s || 'y' FROM t
--- OK
SELECT 1 + 2 - 3 * 4 / 5 // 6 % 7 ^ 8 ** 9, 1 << 2 >> 3 & 4 | 5, xor(1, 2), 5!, @ -5
--- OK
SELECT a::INTEGER, CAST(a AS DECIMAL(10, 2)), TRY_CAST(a AS STRUCT(x INTEGER, y VARCHAR[])), a::MAP(INTEGER, VARCHAR), a::UNION(n INTEGER, s VARCHAR), a::INTEGER[3], a::JSON, a::UUID, a::VARCHAR(10), a::ENUM('x', 'y') FROM t
--- OK
SELECT NULL::BOOLEAN, NULL::TINYINT, NULL::SMALLINT, NULL::BIGINT, NULL::HUGEINT, NULL::UTINYINT, NULL::USMALLINT, NULL::UINTEGER, NULL::UBIGINT, NULL::UHUGEINT, NULL::FLOAT, NULL::DOUBLE, NULL::BLOB, NULL::BIT, NULL::DATE, NULL::TIME, NULL::TIMETZ, NULL::TIMESTAMP, NULL::TIMESTAMP_S, NULL::TIMESTAMP_MS, NULL::TIMESTAMP_NS, NULL::TIMESTAMPTZ, NULL::INTERVAL, NULL::VARIANT
--- OK
SELECT DATE '2026-01-01', TIMESTAMP '2026-01-01', INTERVAL 3 DAY, INTERVAL '1 month', INTERVAL (a) HOUR, a AT TIME ZONE 'UTC', extract(year FROM a), date_trunc('day', a) FROM t
--- OK
SELECT now(), current_date, current_timestamp, localtimestamp, today(), random(), uuid(), gen_random_uuid(), version(), current_user
--- OK
SELECT {'a': 1, 'b': [1, 2, {'c': NULL}]}, MAP {'k': 1}, row(1, 2), (1, 2), [x + 1 FOR x IN [1, 2] IF x > 1], [1, 2][1], [1, 2][1:2], {'a': 1}.a, {'a': 1}['a']
--- OK
SELECT list_transform([1], lambda x: x + 1), list_filter([1], (x, i) -> x > i), list_reduce([1, 2], lambda x, y: x + y), list_sort([1]), list_aggregate([1], 'sum')
--- OK
SELECT j->'a', j->>'$.a', json_extract(j, '$.a'), json_extract_string(j, 'a'), json_object('a', 1), to_json(j), from_json(j, '{"a": "INTEGER"}') FROM t
--- OK
SELECT * EXCLUDE (a) REPLACE (b + 1 AS b) RENAME (c AS d), t.*, COLUMNS('a.*'), COLUMNS(c -> c LIKE 'a%'), greatest(*COLUMNS(*)), COLUMNS(*)::VARCHAR FROM t
--- OK
SELECT #1 FROM t ORDER BY #1
--- OK
SELECT 1.5, 1e10, .5, 1_000_000, -9223372036854775808, 170141183460469231731687303715884105727, 99999999999999999999999999999999999999999999, 'it''s', E'a\'b', $$dollar's$$, $tag$ $$ $tag$, x'00FF', TRUE, NULL
--- OK
PIVOT t ON a IN (1, 2) USING sum(b) GROUP BY s
--- OK
SELECT * FROM t PIVOT (sum(b) AS s, count(*) FOR (a, b) IN ((1, 2), (3, 4)) GROUP BY c) p
--- OK
UNPIVOT t ON a, b INTO NAME n VALUE v
--- OK
SELECT * FROM t UNPIVOT INCLUDE NULLS (v FOR n IN (a AS 'x', b, c)) q
--- OK
UNPIVOT t ON COLUMNS(* EXCLUDE (a)) INTO NAME n VALUE v
--- OK
SELECT * FROM t TABLESAMPLE 10%
--- OK
SELECT * FROM t USING SAMPLE reservoir(10 ROWS) REPEATABLE (3)
--- OK
SELECT string_agg(s, ',' ORDER BY a DESC), list(DISTINCT a), quantile_cont(a, [0.1, 0.9]), percentile_cont(0.5) WITHIN GROUP (ORDER BY a), arg_max(a, b), histogram(a), approx_count_distinct(a), mode(a) FROM t
--- OK
SELECT substring(s FROM 1 FOR 2), position('x' IN s), trim(BOTH 'x' FROM s), regexp_replace(s, 'a', 'b', 'g'), string_split(s, ','), format('{}', s), printf('%d', 1), md5(s), sha256(s), hash(s), encode(s), decode(encode(s)), base64(encode(s)) FROM t
--- OK
DESCRIBE t
--- OK
DESC "access-log"
--- OK
SHOW t
--- OK
DESCRIBE system.topics
--- OK
DESCRIBE SELECT a, b FROM t
--- OK
DESCRIBE TABLE t
--- OK
SUMMARIZE t
--- OK
SUMMARIZE SELECT * FROM t JOIN u USING (a)
--- OK
SELECT column_name FROM (DESCRIBE t) WHERE column_type = 'INTEGER'
--- OK
FROM (SUMMARIZE t)
--- OK
SHOW TABLES
--- OK
show /* all of them */ all tables;
--- OK
SHOW
--- OK
EXPLAIN SELECT * FROM t
--- OK
explain /* x */ analyze FROM t
--- OK
EXPLAIN (FROM t)
--- UNSUPPORTED
EXPLAIN (FORMAT json) SELECT 1
--- OK
SELECT * FROM system.topics s JOIN main.t ON true
--- OK
SELECT * FROM "MAIN"."t", System."topics"
--- OK
SELECT "naïve", '日本語', "a""b" FROM t AS "été" -- é
--- OK a name of WITH hides a table
WITH t AS (SELECT 1 AS a) SELECT * FROM t
--- OK a CTE by the name of a function that reads files
WITH read_csv AS (SELECT 1) FROM read_csv
--- OK a string that looks like a second statement
SELECT '; DROP TABLE t; --'
--- OK a name that looks like a second statement
SELECT 1 AS "; DROP TABLE t; --"
--- OK a dollar string that looks like a second statement
SELECT $x$'; ATTACH 'f'; --$x$
--- OK a comment that looks like a second statement
SELECT 1 /* ; COPY t TO 'f' */ -- ; SET x = 1
--- OK file names as tables are names that nobody knows
SELECT * FROM 'file.csv'
--- OK
SELECT * FROM 'https://example.com/x.parquet'
--- OK
SELECT * FROM "s3://bucket/key.parquet"
--- OK
SELECT * FROM '/etc/passwd' p
--- OK
SELECT * FROM '*.csv' JOIN 'x.json' USING (a)
--- OK names of the engine's own views are names that nobody knows
SELECT * FROM sqlite_master
--- OK
SELECT * FROM duckdb_tables, duckdb_settings, pg_class
--- OK
SELECT * FROM tidemark_scan
--- OK long text
SELECT '«100000 x»'
--- OK a long name
SELECT 1 AS "«50000 n»"
--- OK many columns
SELECT 1«5000 , 1»
--- OK many rows
VALUES (1)«2000 , (1)»
--- OK a long list
SELECT 1 IN (1«9000 , 1»)
--- OK many WITH
WITH a AS (SELECT 1)«count 500 , a# AS (FROM a)» FROM a499
--- OK many arms
SELECT 1«300  UNION ALL SELECT 1»
--- OK many joins
SELECT * FROM t«count 60  CROSS JOIN u AS u#»
--- OK many conjunctions
SELECT 1 WHERE true«900  AND true»
--- OK moderately nested
SELECT «nested 90 (|)»1«/nested»
--- OK
SELECT «nested 40 abs(|)»1«/nested»
--- OK
SELECT * FROM «nested 100 (SELECT * FROM |)»t«/nested»
--- OK a sum of some length
SELECT 1«80 +1»

--- SYNTAX files
SELECT * FROM read_csv(
--- FUNCTION_NOT_ALLOWED
SELECT * FROM read_csv('/etc/passwd')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM READ_CSV_AUTO('x.csv', header = true)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM "read_csv"('x.csv')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM /* hidden */ read_text /* here */ ('/etc/shadow')
--- FUNCTION_NOT_ALLOWED
SELECT content FROM read_blob('*')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM read_parquet('s3://b/k')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM parquet_scan(['a', 'b'])
--- FUNCTION_NOT_ALLOWED
SELECT * FROM read_json('x'), read_json_auto('y')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM read_ndjson_objects('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM read_duckdb('x.db')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM glob('/**')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM sniff_csv('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM parquet_metadata('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM parquet_kv_metadata('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM parquet_schema('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM main.read_csv('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM system.main.read_csv('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM pg_catalog.read_csv('x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM arrow_scan(1, 2, 3)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM arrow_scan_dumb(1, 2, 3)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM seq_scan('t')
--- FUNCTION_NOT_ALLOWED our own
SELECT * FROM tidemark_scan(0)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM "TIDEMARK_SCAN"(1)
--- FUNCTION_NOT_ALLOWED
SELECT tidemark_scan(0)
--- FUNCTION_NOT_ALLOWED
FROM t, LATERAL tidemark_scan(0)
--- FUNCTION_NOT_ALLOWED extensions
SELECT * FROM sqlite_scan('x.db', 't')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM postgres_query('x', 'SELECT 1')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM iceberg_scan('s3://x')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM st_read('x.shp')
--- FUNCTION_NOT_ALLOWED
SELECT http_get('http://169.254.169.254/latest/meta-data')
--- FUNCTION_NOT_ALLOWED
SELECT load_aws_credentials()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM dbgen(sf = 1)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM tpch_queries()
--- FUNCTION_NOT_ALLOWED
SELECT from_substrait('x'::BLOB)
--- FUNCTION_NOT_ALLOWED environment and settings
SELECT getenv('HOME')
--- FUNCTION_NOT_ALLOWED
SELECT getvariable('x')
--- FUNCTION_NOT_ALLOWED
SELECT current_setting('memory_limit')
--- FUNCTION_NOT_ALLOWED
SELECT current_query()
--- FUNCTION_NOT_ALLOWED
SELECT txid_current(), in_search_path('a', 'b')
--- FUNCTION_NOT_ALLOWED
SELECT setseed(0.5)
--- FUNCTION_NOT_ALLOWED
SELECT nextval('s')
--- FUNCTION_NOT_ALLOWED
SELECT currval('s')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM duckdb_settings()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM duckdb_secrets()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM duckdb_functions(), duckdb_tables(), duckdb_columns()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM duckdb_logs()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM duckdb_temporary_files()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM pragma_version()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM pragma_table_info('t')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM pragma_storage_info('t')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM which_secret('s3://x', 's3')
--- FUNCTION_NOT_ALLOWED
SELECT has_table_privilege('t', 'select')
--- FUNCTION_NOT_ALLOWED executing text
SELECT * FROM query('SELECT * FROM read_csv(''x'')')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM query_table('t')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM query_table(['t', 'u'], true)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))
--- FUNCTION_NOT_ALLOWED
SELECT json_serialize_sql('SELECT 1')
--- FUNCTION_NOT_ALLOWED
SELECT json_serialize_plan('SELECT * FROM read_csv(''x'')')
--- FUNCTION_NOT_ALLOWED
SELECT json_deserialize_sql('{}')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM sql_auto_complete('SEL')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM check_peg_parser('SELECT 1')
--- FUNCTION_NOT_ALLOWED
SELECT * FROM histogram_values(t, a)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM histogram(t, a)
--- FUNCTION_NOT_ALLOWED writing, waiting, switching
SELECT write_log('x')
--- FUNCTION_NOT_ALLOWED
SELECT sleep_ms(100000)
--- FUNCTION_NOT_ALLOWED
SELECT pg_sleep(1000)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM checkpoint()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM force_checkpoint()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM enable_logging()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM enable_profiling()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM truncate_duckdb_logs()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM test_all_types()
--- FUNCTION_NOT_ALLOWED
SELECT * FROM repeat_row(1, num_rows = 10)
--- FUNCTION_NOT_ALLOWED
SELECT finalize(combine(x, y)) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT __internal_decompress_string(1)
--- FUNCTION_NOT_ALLOWED
SELECT make_type('x')
--- FUNCTION_NOT_ALLOWED hidden places: a subquery
SELECT (SELECT count(*) FROM read_csv('x'))
--- FUNCTION_NOT_ALLOWED
SELECT * FROM t WHERE a IN (SELECT a FROM read_csv('x'))
--- FUNCTION_NOT_ALLOWED
SELECT * FROM t WHERE EXISTS (FROM glob('*'))
--- FUNCTION_NOT_ALLOWED a WITH that nobody reads
WITH a AS (FROM read_csv('x')) SELECT 1
--- FUNCTION_NOT_ALLOWED
WITH RECURSIVE a AS (SELECT 1 UNION ALL SELECT getenv('x') FROM a) FROM a
--- FUNCTION_NOT_ALLOWED
SELECT * FROM t WHERE a = (WITH x AS (SELECT current_setting('x')) FROM x)
--- FUNCTION_NOT_ALLOWED CASE
SELECT CASE WHEN false THEN getenv('x') END
--- FUNCTION_NOT_ALLOWED
SELECT CASE getenv('x') WHEN 1 THEN 1 END
--- FUNCTION_NOT_ALLOWED a lambda
SELECT list_transform([1], lambda x: getenv('x'))
--- FUNCTION_NOT_ALLOWED
SELECT list_filter([1], x -> getenv('x') = 'y')
--- FUNCTION_NOT_ALLOWED a comprehension
SELECT [getenv(x) FOR x IN ['a'] IF getenv('b') = 'c']
--- FUNCTION_NOT_ALLOWED windows
SELECT sum(a) OVER (PARTITION BY getenv('x')) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT sum(a) OVER (ORDER BY getenv('x')) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT sum(a) OVER w FROM t WINDOW w AS (ORDER BY getenv('x'))
--- FUNCTION_NOT_ALLOWED
SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN getenv('x')::INTEGER PRECEDING AND CURRENT ROW) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT lag(a, getenv('x')::INTEGER) OVER (ORDER BY b) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT lag(a, 1, getenv('x')) OVER (ORDER BY b) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT getenv(a) OVER () FROM t
--- FUNCTION_NOT_ALLOWED
SELECT sum(a) FILTER (WHERE getenv('x') = '') OVER () FROM t
--- FUNCTION_NOT_ALLOWED
SELECT string_agg(a, ',' ORDER BY getenv('x')) OVER () FROM t
--- FUNCTION_NOT_ALLOWED ORDER BY, LIMIT, OFFSET
SELECT a FROM t ORDER BY getenv('x')
--- FUNCTION_NOT_ALLOWED
SELECT a FROM t LIMIT getenv('x')::INTEGER
--- FUNCTION_NOT_ALLOWED
SELECT a FROM t LIMIT 1 OFFSET (SELECT getenv('x')::INTEGER)
--- FUNCTION_NOT_ALLOWED
SELECT a FROM t LIMIT getenv('x')::INTEGER %
--- FUNCTION_NOT_ALLOWED aggregates
SELECT sum(a) FILTER (WHERE getenv('x') = 'y') FROM t
--- FUNCTION_NOT_ALLOWED
SELECT list(a ORDER BY getenv('x')) FROM t
--- FUNCTION_NOT_ALLOWED grouping
SELECT 1 FROM t GROUP BY GROUPING SETS ((a), (getenv('x')))
--- FUNCTION_NOT_ALLOWED
SELECT 1 FROM t GROUP BY a HAVING getenv('x') = 'y'
--- FUNCTION_NOT_ALLOWED
SELECT 1 FROM t QUALIFY getenv('x') = 'y'
--- FUNCTION_NOT_ALLOWED
SELECT DISTINCT ON (getenv('x')) a FROM t
--- FUNCTION_NOT_ALLOWED joins
SELECT * FROM t JOIN u ON getenv('x') = t.a
--- FUNCTION_NOT_ALLOWED
SELECT * FROM t ASOF JOIN u ON t.a >= u.a AND getenv('x') = 'y'
--- FUNCTION_NOT_ALLOWED
SELECT * FROM t LEFT JOIN LATERAL (SELECT getenv('x')) ON true
--- FUNCTION_NOT_ALLOWED arms
SELECT 1 UNION ALL SELECT getenv('x')
--- FUNCTION_NOT_ALLOWED
(SELECT 1 ORDER BY getenv('x')) EXCEPT SELECT 2
--- FUNCTION_NOT_ALLOWED VALUES
VALUES (1), (getenv('x'))
--- FUNCTION_NOT_ALLOWED PIVOT
PIVOT (SELECT getenv('x') AS a FROM t) ON a IN (1) USING sum(b)
--- FUNCTION_NOT_ALLOWED
PIVOT t ON getenv(a) IN ('x') USING sum(b)
--- FUNCTION_NOT_ALLOWED
PIVOT t ON a IN (1) USING sum(getenv('x')::INTEGER)
--- FUNCTION_NOT_ALLOWED
UNPIVOT (FROM read_csv('x')) ON a
--- FUNCTION_NOT_ALLOWED literals
SELECT {'a': getenv('x')}
--- FUNCTION_NOT_ALLOWED
SELECT [1, getenv('x')], MAP {'a': 1}
--- FUNCTION_NOT_ALLOWED
SELECT MAP {'a': getenv('x')}
--- FUNCTION_NOT_ALLOWED
SELECT (1, getenv('x'))
--- FUNCTION_NOT_ALLOWED stars
SELECT * REPLACE (getenv('x') AS a) FROM t
--- FUNCTION_NOT_ALLOWED
SELECT COLUMNS(c -> getenv(c) = 'x') FROM t
--- FUNCTION_NOT_ALLOWED operators
SELECT 1 + getenv('x')::INTEGER
--- FUNCTION_NOT_ALLOWED
SELECT NOT (getenv('x') IS NULL)
--- FUNCTION_NOT_ALLOWED
SELECT getenv('x') COLLATE nocase
--- FUNCTION_NOT_ALLOWED
SELECT a[getenv('x')::INTEGER] FROM t
--- FUNCTION_NOT_ALLOWED
SELECT a BETWEEN getenv('x') AND getenv('y') FROM t
--- FUNCTION_NOT_ALLOWED
SELECT try(getenv('x'))
--- FUNCTION_NOT_ALLOWED
SELECT INTERVAL (getenv('x')) DAY
--- FUNCTION_NOT_ALLOWED arguments of tables
SELECT * FROM range(getenv('x')::INTEGER)
--- FUNCTION_NOT_ALLOWED
SELECT * FROM unnest((SELECT list(content) FROM read_text('*')))
--- FUNCTION_NOT_ALLOWED methods
SELECT ('x').getenv()
--- FUNCTION_NOT_ALLOWED
SELECT a.getenv() FROM t
--- FUNCTION_NOT_ALLOWED
SELECT system.main.getenv('x')
--- FUNCTION_NOT_ALLOWED
SELECT memory.lower('x')
--- FUNCTION_NOT_ALLOWED
SELECT pg_catalog.version()
--- FUNCTION_NOT_ALLOWED inside DESCRIBE
DESCRIBE SELECT getenv('x')
--- FUNCTION_NOT_ALLOWED
SUMMARIZE FROM read_csv('x')
--- FUNCTION_NOT_ALLOWED
FROM (DESCRIBE FROM read_csv('x'))
--- FUNCTION_NOT_ALLOWED homoglyphs are other names
SELECT * FROM rеad_csv('x')
--- FUNCTION_NOT_ALLOWED
SELECT ｇｅｔｅｎｖ('x')
--- FUNCTION_NOT_ALLOWED unknown
SELECT lowre('x')

--- TABLE_NOT_ALLOWED
SELECT * FROM information_schema.tables
--- TABLE_NOT_ALLOWED
SELECT * FROM "Information_Schema"."columns"
--- TABLE_NOT_ALLOWED
SELECT * FROM pg_catalog.pg_class
--- TABLE_NOT_ALLOWED
SELECT * FROM system.main.duckdb_settings
--- TABLE_NOT_ALLOWED
SELECT * FROM system.information_schema.tables
--- TABLE_NOT_ALLOWED
SELECT * FROM temp.main.t
--- TABLE_NOT_ALLOWED
SELECT * FROM memory.main.t
--- TABLE_NOT_ALLOWED
SELECT * FROM memory.t
--- TABLE_NOT_ALLOWED
SELECT * FROM other.t
--- TABLE_NOT_ALLOWED
SELECT * FROM "s3"."key"
--- TABLE_NOT_ALLOWED
DESCRIBE information_schema.tables
--- TABLE_NOT_ALLOWED
SELECT (SELECT max(a) FROM x.y)
--- TABLE_NOT_ALLOWED recurring is for recursions USING KEY
SELECT * FROM recurring.t
--- TABLE_NOT_ALLOWED
WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT 1 FROM recurring.r) FROM r
--- TABLE_NOT_ALLOWED a CTE is no table of a schema
WITH tables AS (SELECT 1) FROM information_schema.tables
--- TABLE_NOT_ALLOWED
PIVOT information_schema.tables ON a IN (1) USING count(*)

--- STATEMENT_NOT_ALLOWED
INSERT INTO t VALUES (1)
--- STATEMENT_NOT_ALLOWED
INSERT OR REPLACE INTO t SELECT * FROM u
--- STATEMENT_NOT_ALLOWED
UPDATE t SET a = 1
--- STATEMENT_NOT_ALLOWED
DELETE FROM t
--- STATEMENT_NOT_ALLOWED
TRUNCATE t
--- STATEMENT_NOT_ALLOWED
MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE
--- STATEMENT_NOT_ALLOWED
CREATE TABLE x AS SELECT 1
--- STATEMENT_NOT_ALLOWED
CREATE OR REPLACE TEMP VIEW v AS SELECT 1
--- STATEMENT_NOT_ALLOWED
CREATE MACRO m(x) AS getenv(x)
--- STATEMENT_NOT_ALLOWED
CREATE SECRET (TYPE s3)
--- STATEMENT_NOT_ALLOWED
CREATE SCHEMA s
--- STATEMENT_NOT_ALLOWED
CREATE SEQUENCE s
--- STATEMENT_NOT_ALLOWED
CREATE TYPE e AS ENUM ('a')
--- STATEMENT_NOT_ALLOWED
CREATE INDEX i ON t (a)
--- STATEMENT_NOT_ALLOWED
DROP TABLE t
--- STATEMENT_NOT_ALLOWED
ALTER TABLE t ADD COLUMN x INTEGER
--- STATEMENT_NOT_ALLOWED
COMMENT ON TABLE t IS 'x'
--- STATEMENT_NOT_ALLOWED
COPY t TO 'f.csv'
--- STATEMENT_NOT_ALLOWED
COPY (SELECT * FROM t) TO '/tmp/f.parquet' (FORMAT parquet)
--- STATEMENT_NOT_ALLOWED
COPY t FROM 'https://example.com/x'
--- STATEMENT_NOT_ALLOWED
COPY FROM DATABASE a TO b
--- STATEMENT_NOT_ALLOWED
EXPORT DATABASE 'x'
--- STATEMENT_NOT_ALLOWED
IMPORT DATABASE 'x'
--- STATEMENT_NOT_ALLOWED
ATTACH 'x.db' AS y
--- STATEMENT_NOT_ALLOWED
DETACH y
--- STATEMENT_NOT_ALLOWED
USE y
--- STATEMENT_NOT_ALLOWED
INSTALL httpfs
--- STATEMENT_NOT_ALLOWED
FORCE INSTALL httpfs FROM 'http://example.com'
--- STATEMENT_NOT_ALLOWED
LOAD '/tmp/x.duckdb_extension'
--- STATEMENT_NOT_ALLOWED
UPDATE EXTENSIONS
--- STATEMENT_NOT_ALLOWED
SET memory_limit = '1TB'
--- STATEMENT_NOT_ALLOWED
SET GLOBAL enable_external_access = true
--- STATEMENT_NOT_ALLOWED
SET VARIABLE x = 1
--- STATEMENT_NOT_ALLOWED
RESET memory_limit
--- STATEMENT_NOT_ALLOWED
PRAGMA database_list
--- STATEMENT_NOT_ALLOWED
PRAGMA enable_profiling = 'json'
--- STATEMENT_NOT_ALLOWED
CALL pragma_version()
--- STATEMENT_NOT_ALLOWED
CALL force_checkpoint()
--- STATEMENT_NOT_ALLOWED
CHECKPOINT
--- STATEMENT_NOT_ALLOWED
VACUUM
--- STATEMENT_NOT_ALLOWED
ANALYZE t
--- STATEMENT_NOT_ALLOWED
PREPARE p AS SELECT 1
--- STATEMENT_NOT_ALLOWED
EXECUTE p(1)
--- STATEMENT_NOT_ALLOWED
DEALLOCATE p
--- STATEMENT_NOT_ALLOWED
BEGIN
--- STATEMENT_NOT_ALLOWED
COMMIT
--- STATEMENT_NOT_ALLOWED
ROLLBACK
--- STATEMENT_NOT_ALLOWED
EXPLAIN EXPLAIN SELECT 1
--- UNSUPPORTED
EXPLAIN (ANALYZE) SELECT 1
--- STATEMENT_NOT_ALLOWED behind comments
/* a */ -- b
/* c /* d */ */ DROP /* e */ TABLE t
--- STATEMENT_NOT_ALLOWED
WITH a AS (SELECT 1) INSERT INTO t FROM a
--- STATEMENT_NOT_ALLOWED
WITH a AS (SELECT 1) DELETE FROM t
--- SYNTAX
WITH a AS (INSERT INTO t VALUES (1) RETURNING *) FROM a
--- SYNTAX
WITH a AS (DELETE FROM t RETURNING *) FROM a
--- SYNTAX
SELECT * FROM (INSERT INTO t VALUES (1) RETURNING *)
--- SYNTAX
SELECT * INTO x FROM t
--- STATEMENT_NOT_ALLOWED
SHOW DATABASES
--- STATEMENT_NOT_ALLOWED
SHOW VARIABLES
--- STATEMENT_NOT_ALLOWED
SHOW SCHEMAS
--- STATEMENT_NOT_ALLOWED
SHOW TABLES FROM main
--- STATEMENT_NOT_ALLOWED
FROM (SHOW TABLES)
--- STATEMENT_NOT_ALLOWED
SELECT * FROM (SHOW ALL TABLES) JOIN t ON true
--- STATEMENT_NOT_ALLOWED
SELECT (SELECT count(*) FROM (SHOW DATABASES))
--- STATEMENT_NOT_ALLOWED
DESCRIBE databases

--- NOT_ONE_STATEMENT
SELECT 1; SELECT 2
--- NOT_ONE_STATEMENT
SELECT 1; DROP TABLE t
--- NOT_ONE_STATEMENT behind a comment
SELECT 1 /* ; */ ; -- x
ATTACH 'f'
--- NOT_ONE_STATEMENT behind a string
SELECT ';' ; COPY t TO 'f'
--- NOT_ONE_STATEMENT behind a dollar string
SELECT $$;$$ ; SET x = 1
--- NOT_ONE_STATEMENT a backslash escapes nothing in a plain string
SELECT '\'; DROP TABLE t; --'
--- NOT_ONE_STATEMENT a comment ends at the last of its ends
SELECT 1 /* /* */ */ ; DROP TABLE t /* */
--- NOT_ONE_STATEMENT a comment ends at a carriage return
SELECT 1 --«hex 0d»; DROP TABLE t
--- NOT_ONE_STATEMENT
DROP TABLE t; SELECT 1
--- NOT_ONE_STATEMENT
SHOW TABLES; SHOW TABLES
--- NOT_ONE_STATEMENT many
«1000 SELECT 1;»
--- OK an escape string that goes on in the next line is still one
SELECT E'a'
'\'; DROP TABLE t; --'

--- EMPTY nothing

--- EMPTY
;
--- EMPTY
  -- only a comment
--- EMPTY
/* a */ /* b */ ;;;

--- SYNTAX
SELEC 1
--- SYNTAX
SELECT FROM
--- SYNTAX
SELECT 1 FROM t WHERE
--- SYNTAX
SELECT (1
--- SYNTAX
SELECT 1)
--- SYNTAX unterminated string
SELECT 'abc
--- SYNTAX
SELECT E'abc\'
--- SYNTAX
SELECT "abc
--- SYNTAX
SELECT $x$abc$y$
--- SYNTAX
SELECT 1 /* abc
--- SYNTAX
SELECT 1 /* /* */
--- SYNTAX a NUL
SELECT 1«hex 00»
--- SYNTAX
SELECT 1 «hex 00»; DROP TABLE t
--- SYNTAX
SELECT '«hex 00»'
--- SYNTAX bad UTF-8
SELECT '«hex ff»'
--- SYNTAX
SELECT "«hex c328»"
--- SYNTAX a surrogate
SELECT '«hex eda080»'
--- SYNTAX an overlong slash
SELECT '«hex c0af»'
--- SYNTAX a blank that is none
SELECT«hex c2a0»1
--- SYNTAX
SELECT 1 FROM t«hex e38080», u
--- SYNTAX
SELECT * /*«hex e28083»*/ FROM t
--- SYNTAX nothing to see
SEL«hex e2808b»ECT 1
--- SYNTAX turned around
SELECT 1 «hex e280ae»-- x
--- SYNTAX byte order mark
«hex efbbbf»SELECT 1
--- SYNTAX a homoglyph of a keyword
ＳＥＬＥＣＴ 1
--- SYNTAX Unicode quotes
SELECT ‘a’ FROM
--- SYNTAX
SELECT U&'\0041'
--- SYNTAX
SELECT * FROM t FOR UPDATE
--- SYNTAX
COPY
--- SYNTAX a meta command of a shell
.shell ls
--- SYNTAX
\copy t to 'f'
--- SYNTAX
SELECT «100 @» 1

--- UNSUPPORTED parameters
SELECT ?
--- UNSUPPORTED
SELECT $1
--- UNSUPPORTED
SELECT $name
--- UNSUPPORTED
SELECT a FROM t LIMIT ?
--- UNSUPPORTED
SELECT a FROM t WHERE a IN (SELECT $1)
--- UNSUPPORTED time travel
SELECT * FROM t AT (VERSION => 1)
--- UNSUPPORTED
SELECT * FROM t AT (TIMESTAMP => now())
--- UNSUPPORTED
SELECT 1::other.kind
--- UNSUPPORTED
PIVOT t ON a USING sum(b)
--- UNSUPPORTED
FROM (PIVOT t ON a USING sum(b))
--- UNSUPPORTED
SELECT * FROM t PIVOT (sum(b) FOR a IN some_enum)
--- UNSUPPORTED
SELECT * FROM ONLY t
--- UNSUPPORTED
SELECT * FROM ONLY (t)
--- UNSUPPORTED
SELECT * FROM t *
--- UNSUPPORTED a number beyond DOUBLE
SELECT 1e999

--- TOO_LARGE brackets
SELECT «nested 100000 (|)»1«/nested»
--- TOO_LARGE a megabyte of them
SELECT «1000000 (»
--- TOO_LARGE more than a megabyte
SELECT '«1100000 x»'
--- TOO_LARGE
SELECT «nested 100000 [|]»1«/nested»
--- TOO_LARGE
SELECT «nested 20000 {'a':|}»1«/nested»
--- TOO_LARGE
SELECT «nested 5000 MAP {1:|}»1«/nested»
--- TOO_LARGE
SELECT «nested 20000 abs(|)»1«/nested»
--- TOO_LARGE just deep enough for the planner
SELECT «nested 150 abs(|)»1«/nested»
--- TOO_LARGE
SELECT «nested 150 {'a': |}»1«/nested»
--- TOO_LARGE
SELECT 1«100000 +1»
--- TOO_LARGE
SELECT 1«200 +1»
--- TOO_LARGE
SELECT 'a'«900 ||'a'»
--- TOO_LARGE
SELECT 1«20000 ::INTEGER»
--- TOO_LARGE
SELECT «20000 NOT »true
--- TOO_LARGE
SELECT «20000 - »a FROM t
--- TOO_LARGE
SELECT «20000 ~ »1
--- TOO_LARGE
SELECT «nested 5000 CASE WHEN | THEN 1 END»true«/nested»
--- TOO_LARGE
SELECT «nested 5000 CASE WHEN true THEN 1 ELSE | END»1«/nested»
--- TOO_LARGE
SELECT «nested 600 (SELECT |)»1«/nested»
--- TOO_LARGE subqueries in expressions
SELECT «nested 20 (SELECT |)»1«/nested»
--- TOO_LARGE
SELECT «nested 20 EXISTS (SELECT |)»1«/nested»
--- TOO_LARGE
SELECT * FROM «nested 600 (SELECT * FROM |)»t«/nested»
--- TOO_LARGE
«nested 450 WITH a AS (|) FROM a»SELECT 1«/nested»
--- TOO_LARGE
SELECT 1«20000  UNION ALL SELECT 1»
--- TOO_LARGE
SELECT * FROM t«10000 , t»
--- TOO_LARGE
SELECT * FROM t«count 70 , u AS u#»
--- TOO_LARGE
SELECT * FROM t«count 2000  JOIN u AS u# ON true»
--- TOO_LARGE
SELECT true«100000  AND true»
--- TOO_LARGE
SELECT 1 FROM t WHERE a = 0«count 600  OR (a = # AND b = #)»
--- TOO_LARGE
SELECT a«50000  AND b OR c» FROM t
--- TOO_LARGE columns
SELECT 1«30000 , 1»
--- TOO_LARGE rows
VALUES (1)«200000 ,(1)»
--- TOO_LARGE WITH
WITH a AS (SELECT 1)«count 15000 , a# AS (FROM a)» FROM a
--- TOO_LARGE nested comments
SELECT «nested 10000 /*|*/»x«/nested» 1
--- TOO_LARGE
«300000 /*»
--- TOO_LARGE types
SELECT NULL::INTEGER«400 []»
--- TOO_LARGE
SELECT NULL::«nested 200 STRUCT(a |)»INTEGER«/nested»
--- TOO_LARGE
SELECT NULL::«nested 200 MAP(INTEGER, |)»INTEGER«/nested»
--- TOO_LARGE
SELECT «nested 900 list_transform([1], lambda x: |)»1«/nested»
--- TOO_LARGE
SELECT «nested 5000 sum(|) OVER ()»1«/nested»
--- TOO_LARGE
SELECT «nested 5000 [x FOR x IN |]»[1]«/nested»
--- TOO_LARGE
SELECT a«5000 [1]» FROM t
--- TOO_LARGE
SELECT (a)«5000 .b» FROM t
--- TOO_LARGE
SELECT 1 GROUP BY CUBE (a«30 , a»)
--- TOO_LARGE
SELECT * FROM t«5000  PIVOT (sum(x) FOR y IN (1))»

--- RUNS a cross join of billions
SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c
--- RUNS a recursion without end
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r
--- RUNS a text of ten billion letters
SELECT length(repeat('x', 10000000000))
--- RUNS
SELECT list_sum(range(10000000000))
--- RUNS
SELECT lpad('x', 2000000000, 'y')
--- TOO_LARGE doubling
SELECT length(«nested 30 repeat(|, 10)»'x'«/nested»)
--- RUNS sorting what does not fit
SELECT i FROM range(100000000000) r(i) ORDER BY hash(i)
--- RUNS grouping it
SELECT i, count(*) FROM range(100000000000) r(i) GROUP BY i
--- RUNS a window over it
SELECT max(s) FROM (SELECT sum(i) OVER (ORDER BY hash(i)) AS s FROM range(100000000000) r(i))
--- RUNS a list of everything
SELECT list(i) FROM range(100000000000) r(i)
--- RUNS
SELECT string_agg(i::VARCHAR, ',') FROM range(100000000000) r(i)
--- RUNS every pair of a table
SELECT count(*) FROM range(10000000) a(i) JOIN range(10000000) b(j) ON i + j = hash(i * j) % 1000
--- RUNS a regular expression over much
SELECT count(*) FROM range(100000000000) r(i) WHERE regexp_matches(repeat('a', 1000) || i, '(a*)*b')
--- RUNS
WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r
--- RUNS
SELECT count(*) FROM (SELECT unnest(range(1000000)) FROM range(1000000))
--- RUNS
FROM generate_series(1, 9223372036854775807)
--- RUNS a list of 150 million numbers, one after the other in one call
SELECT len(range(150000000))
--- RUNS
SELECT len(generate_series(1, 150000000, 1))
--- RUNS
SELECT list_resize([1], 400000000)
--- RUNS
SELECT rpad('x', 2000000000, 'y')
--- RUNS
SELECT sum(length(repeat(i::VARCHAR, 3000))) FROM range(100000000000) r(i)
--- FUNCTION_NOT_ALLOWED a width of half a billion
SELECT format('{:>500000000}', 1)
--- FUNCTION_NOT_ALLOWED
SELECT printf('%500000000d', 1)
--- FUNCTION_NOT_ALLOWED a width that an argument gives
SELECT format('{:{}}', 'x', 500000000)
--- FUNCTION_NOT_ALLOWED
SELECT printf('%*d', 500000000, 1)
--- FUNCTION_NOT_ALLOWED a pattern that is not written
SELECT format(s, 1) FROM t
--- OK
SELECT format('{{"year": 2026, "v": {:.3f}, "w": {:>20}}}', 1.5, s), printf('%08.3f of 100000 * 2', 1.5) FROM t
--- OK makers in each other, a few
SELECT rpad(lpad(repeat(s, 2), 10, ' '), 20, '.'), len(range(len(range(3)))) FROM t
--- TOO_LARGE each would be written several times inside the next
SELECT len(range(len(range(len(range(len(range(3)))))))) FROM t
