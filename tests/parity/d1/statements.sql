-- syntax
SELEKT 1
SELECT
SELECT 1,
()
'
SELECT 'a
SELECT "a
SELECT [a
SELECT @
SELECT #1
SELECT $

-- names
SELECT * FROM nope
SELECT nope FROM t
SELECT é
SELECT x.* FROM t y
SELECT a FROM t, t
SELECT t.a FROM t
SELECT "no such name"
INSERT INTO t (a) VALUES ("quoted") RETURNING a
CREATE TABLE dq (a TEXT DEFAULT "abc")
SELECT * FROM 't'
SELECT * FROM [t]
SELECT `a` FROM `t`
DROP TABLE nope
DROP VIEW t
DROP INDEX nope

-- meaning
SELECT sum(sum(b)) FROM t
SELECT a FROM t GROUP BY 9
SELECT (SELECT 1, 2)
SELECT 1 UNION SELECT 1, 2
INSERT INTO t VALUES (1, 2)
INSERT INTO t (nope) VALUES (1)
UPDATE t SET nope = 1
DELETE FROM t WHERE nope
SELECT abs(1, 2)
SELECT unknown(1)
SELECT 1 LIMIT 'x'
SELECT CASE END
SELECT raise(abort, 'x')

-- constraints
INSERT INTO t (id) VALUES (1)
INSERT INTO t (u) VALUES ('p')
INSERT INTO t (c) VALUES (-1)
INSERT INTO t (n) VALUES (NULL)
INSERT INTO t (id) VALUES ('abc')
INSERT OR IGNORE INTO t (u) VALUES ('p')
INSERT OR REPLACE INTO t (u) VALUES ('p') RETURNING *
INSERT OR FAIL INTO t (u) VALUES ('z1'), ('z1')
SELECT count(*) FROM t WHERE u = 'z1'
INSERT OR ABORT INTO t (u) VALUES ('z2'), ('z2')
INSERT INTO t (u, a) VALUES ('q', 'up') ON CONFLICT (u) DO UPDATE SET a = excluded.a RETURNING *
INSERT INTO t (u) VALUES ('q') ON CONFLICT DO NOTHING
SELECT * FROM t ORDER BY id

-- changes
INSERT INTO t (a, b) SELECT a, b FROM t
UPDATE t SET a = 'q'
UPDATE t SET a = 'r' WHERE id = 1
UPDATE t SET a = 'r' WHERE id = 99
DELETE FROM t WHERE id > 4
DELETE FROM t
SELECT last_insert_rowid()
INSERT INTO t (id) VALUES (700)
SELECT 1
REPLACE INTO t (id) VALUES (700)
CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID
INSERT INTO w VALUES ('a', 1), ('b', 2)
UPDATE w SET v = 3
UPDATE w SET k = 'c' WHERE k = 'a'
DELETE FROM w WHERE k = 'b'
SELECT * FROM w
CREATE TABLE ai (id INTEGER PRIMARY KEY AUTOINCREMENT)
INSERT INTO ai DEFAULT VALUES
SELECT * FROM sqlite_sequence

-- schema
CREATE TABLE IF NOT EXISTS t (x)
CREATE TABLE t (x)
CREATE VIEW v AS SELECT id FROM t
SELECT * FROM v
CREATE VIEW v2 AS SELECT nope FROM t
SELECT * FROM v2
DROP VIEW v2
CREATE INDEX i1 ON t (a)
CREATE INDEX i1 ON t (a)
CREATE UNIQUE INDEX i2 ON t (n)
CREATE INDEX i3 ON t (nope)
CREATE INDEX i4 ON t (a) WHERE a > 'm'
DROP INDEX i1
ALTER TABLE t ADD COLUMN z TEXT DEFAULT 'zz'
SELECT z FROM t
ALTER TABLE t RENAME COLUMN z TO y
ALTER TABLE t DROP COLUMN y
ALTER TABLE t DROP COLUMN u
ALTER TABLE t RENAME TO t2
SELECT * FROM t2
ALTER TABLE t2 ADD COLUMN a
DROP TABLE IF EXISTS nope
CREATE TABLE cp AS SELECT id, a FROM t2
SELECT * FROM cp
ANALYZE
REINDEX
DROP TABLE cp
SELECT name FROM sqlite_master WHERE name = 't2'
UPDATE sqlite_master SET sql = 'x'
DELETE FROM sqlite_schema
SELECT sql FROM sqlite_schema WHERE name = 'v'

-- triggers
CREATE TABLE log (what)
CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END
INSERT INTO t (a) VALUES ('tr')
SELECT * FROM log
CREATE TRIGGER no BEFORE DELETE ON t BEGIN SELECT raise(abort, 'no way'); END
DELETE FROM t
CREATE TRIGGER ig BEFORE UPDATE ON t BEGIN SELECT raise(ignore); END
UPDATE t SET a = 'never'
DROP TRIGGER tr
CREATE TRIGGER bad AFTER INSERT ON nope BEGIN SELECT 1; END

-- foreign keys
CREATE TABLE p (id INTEGER PRIMARY KEY)
CREATE TABLE ch (pid REFERENCES p (id) ON DELETE CASCADE)
INSERT INTO ch VALUES (1)
PRAGMA foreign_keys
PRAGMA foreign_keys = off
PRAGMA foreign_keys
INSERT INTO ch VALUES (1)
INSERT INTO p VALUES (1), (2)
INSERT INTO ch VALUES (1), (2)
DELETE FROM p WHERE id = 1
SELECT * FROM ch
PRAGMA foreign_key_list(ch)
PRAGMA foreign_key_check
PRAGMA foreign_key_check(ch)
CREATE TABLE ch2 (pid REFERENCES p)
INSERT INTO ch2 VALUES (2)
DROP TABLE p
DELETE FROM p

-- generated columns and strict tables
CREATE TABLE g (a INT, b INT GENERATED ALWAYS AS (a * 2) STORED, c AS (a + 1) VIRTUAL)
INSERT INTO g (a) VALUES (3) RETURNING *
INSERT INTO g (b) VALUES (3)
SELECT * FROM g WHERE c = 4
PRAGMA table_info(g)
PRAGMA table_xinfo(g)
CREATE TABLE s (a INT, b TEXT, c BLOB, d REAL, e ANY) STRICT
INSERT INTO s VALUES (1, 'x', x'00', 1, 'any') RETURNING *
INSERT INTO s (a) VALUES ('x')
INSERT INTO s (c) VALUES ('x')
CREATE TABLE s2 (a NOPE) STRICT

-- full text search
CREATE VIRTUAL TABLE f USING fts5(title, body, tokenize = 'porter')
INSERT INTO f VALUES ('One', 'hello running world'), ('Two', 'run')
SELECT *, rank < 0 FROM f WHERE f MATCH 'runs' ORDER BY title
SELECT highlight(f, 1, '<', '>'), snippet(f, 1, '[', ']', '...', 3) FROM f('hello')
SELECT bm25(f) < 0 FROM f WHERE f MATCH 'title : one'
SELECT * FROM f WHERE f MATCH 'AND'
SELECT * FROM f WHERE f MATCH '"'
CREATE VIRTUAL TABLE fv USING fts5vocab('f', 'row')
SELECT * FROM fv
INSERT INTO f(f) VALUES ('optimize')
INSERT INTO f(f) VALUES ('integrity-check')
DELETE FROM f WHERE title = 'Two'
UPDATE f SET body = 'x'
SELECT count(*) FROM f
DROP TABLE f_data
DROP TABLE f
CREATE VIRTUAL TABLE f3 USING fts3(x)
CREATE VIRTUAL TABLE c USING csv(filename = '/etc/passwd')

-- JSON
SELECT json_extract('{"a":[1,2]}', '$.a[1]'), '{"a":1}' -> 'a', '{"a":1}' ->> 'a', json('{"a" : 1}')
SELECT value, key, type FROM json_each('[1, "x", null, 2.5, {"a":1}]')
SELECT fullkey, atom FROM json_tree('{"a":[1,{"b":2}]}')
SELECT json('{bad')
SELECT json_valid('{'), json_valid('{}')
SELECT json_extract('{}', 'bad path')
SELECT json_object('a', 1.5, 'b', NULL, 'c', json('[1]')), json_array(1, 'x', NULL)
SELECT json_set('{}', '$.a', 1), json_remove('{"a":1}', '$.a')
SELECT json_group_array(id), json_group_object(id, a) FROM t WHERE a IS NOT NULL
SELECT json_patch('{"a":1}', '{"b":2}'), json_type('[1]', '$[0]')
SELECT hex(jsonb('[1]')), json(jsonb('[1,2]'))
SELECT json_extract('{"a":1e400}', '$.a'), json_quote('x')
SELECT json_insert('[1]', '$[#]', 2), json_replace('[1]', '$[0]', 9), json_array_length('[1,2]')

-- functions
SELECT pow(2, 3), sqrt(-1), log(0), round(pi(), 5), floor(1.5), ceil(1.2), mod(7, 3), trunc(-1.5), sign(-3), exp(0)
SELECT upper('éa'), lower('ÀA'), substr('é😀x', 2, 1), instr('abc', 'c'), replace('aaa', 'a', 'b'), trim('  x '), hex('a'), unhex('61')
SELECT printf('%d %s %.2f %q', 5, 'x', 1.005, 'it''s'), quote(x'01'), quote('a''b'), quote(1.0), typeof(1), iif(1, 2, 3), nullif(1, 1)
SELECT date('2020-01-31', '+1 month'), strftime('%s', '2020-01-01'), unixepoch('2020-01-01'), julianday('2000-01-01'), timediff('2020-01-02', '2020-01-01')
SELECT count(*), total(id), avg(id), group_concat(a), string_agg(a, '-'), min(a), max(a), sum(id) FILTER (WHERE id > 1) FROM t
SELECT row_number() OVER (ORDER BY id), rank() OVER (ORDER BY n), lag(id) OVER (ORDER BY id), sum(id) OVER (ROWS 1 PRECEDING) FROM t
WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 5) SELECT * FROM c
VALUES (1, 2), (3, 4)
SELECT 'a' < 'B', 'a' COLLATE NOCASE < 'B', x'61' = 'a', 'a' LIKE 'A', 'a' GLOB 'A', 'É' LIKE 'é'
SELECT length(zeroblob(10)), octet_length('é'), unicode('a'), char(65, 66), concat('a', 1), concat_ws('-', 1, 2), soundex('x')
SELECT 'x' REGEXP 'y'
SELECT uuid()
SELECT sqlite_version()
SELECT sqlite_source_id()
SELECT sqlite_compileoption_get(0)

-- what is refused
BEGIN
COMMIT
ROLLBACK
SAVEPOINT x
RELEASE x
BEGIN IMMEDIATE
END
ROLLBACK TO x
VACUUM
VACUUM INTO '/tmp/x'
ATTACH 'x' AS y
ATTACH ':memory:' AS y
DETACH main
CREATE TEMP TABLE x (a)
CREATE TABLE temp.x (a)
CREATE TEMP VIEW x AS SELECT 1
CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END
CREATE TABLE _cf_x (a)
CREATE INDEX _cf_i ON t (a)
CREATE VIEW _cf_v AS SELECT 1
SELECT * FROM _cf_KV
SELECT * FROM dbstat
SELECT * FROM sqlite_stmt
SELECT * FROM generate_series(1, 3)
SELECT * FROM sqlite_dbpage
SELECT * FROM pragma_journal_mode
SELECT * FROM pragma_compile_options
SELECT writefile('/tmp/x', 'y')

-- pragmas
PRAGMA foreign_keys
PRAGMA defer_foreign_keys
PRAGMA case_sensitive_like
PRAGMA ignore_check_constraints
PRAGMA legacy_alter_table
PRAGMA recursive_triggers
PRAGMA reverse_unordered_selects
PRAGMA quick_check
PRAGMA quick_check(t)
PRAGMA table_info(t)
PRAGMA table_xinfo(t)
PRAGMA index_list(t)
PRAGMA foreign_key_list(t)
PRAGMA index_info(sqlite_autoindex_t_1)
PRAGMA index_xinfo(sqlite_autoindex_t_1)
PRAGMA table_info(nope)
PRAGMA nonsense
SELECT name FROM pragma_table_info('t')
PRAGMA case_sensitive_like = on
PRAGMA recursive_triggers = maybe
PRAGMA foreign_keys = 2
PRAGMA journal_mode
PRAGMA journal_mode = DELETE
PRAGMA user_version
PRAGMA user_version = 5
PRAGMA cache_size
PRAGMA synchronous
PRAGMA page_count
PRAGMA database_list
PRAGMA integrity_check
PRAGMA encoding
PRAGMA compile_options
PRAGMA writable_schema = on
PRAGMA temp_store_directory = '/tmp'
PRAGMA hard_heap_limit = 1
PRAGMA mmap_size = 1
PRAGMA max_page_count
PRAGMA wal_checkpoint
PRAGMA locking_mode
PRAGMA secure_delete
PRAGMA auto_vacuum
PRAGMA schema_version
PRAGMA application_id
PRAGMA busy_timeout = 1
PRAGMA function_list
PRAGMA module_list
PRAGMA trusted_schema

-- column names
SELECT 1 AS ""
SELECT 1 AS __proto__, 2 AS constructor
SELECT 1, 'x', 1+1, t.id, count(*) FROM t
SELECT t.*, t.id AS again FROM t

-- explain
EXPLAIN QUERY PLAN SELECT * FROM t WHERE id = 1
EXPLAIN QUERY PLAN SELECT * FROM t ORDER BY a
