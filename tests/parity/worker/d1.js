// The D1 database before a list of operations: empty, and with the same last row id on both sides.
export async function reset(db) {
  for (let tries = 20; ; tries -= 1) {
    const { results } = await db.prepare(LEFT).all();
    if (results.length === 0) break;
    if (tries === 0) throw new Error(`cannot drop ${JSON.stringify(results)}`);
    for (const { type, name } of results) await drop(db, type, name);
  }
  await db.batch(["CREATE TABLE a (b)", "INSERT INTO a VALUES (1)", "DROP TABLE a"].map((sql) => db.prepare(sql)));
}

export function describe(value) {
  return ["D1PreparedStatement", "D1DatabaseSession"].includes(value?.constructor?.name) ? {} : undefined;
}

// What a virtual table keeps its rows in cannot be dropped alone, and goes with it.
const LEFT = `SELECT type, name FROM sqlite_master
  WHERE type IN ('table', 'view') AND substr(name, 1, 7) <> 'sqlite_' AND substr(name, 1, 4) <> '_cf_'`;

async function drop(db, type, name) {
  const sql = `DROP ${type} IF EXISTS "${name.replaceAll('"', '""')}"`;
  await db.batch([db.prepare("PRAGMA defer_foreign_keys = on"), db.prepare(sql)]).catch(() => {});
}
