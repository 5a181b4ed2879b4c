// Serves stores.js on Miniflare in its fastest configuration: `node stores.mjs INSTALLATION DATA`, as platform.mjs does.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [installation, data] = process.argv.slice(2);
const { Log, LogLevel, Miniflare } = createRequire(join(installation, "package.json"))("miniflare");

const miniflare = new Miniflare({
  log: new Log(LogLevel.NONE),
  host: "127.0.0.1",
  kvPersist: `${data}/kv`,
  r2Persist: `${data}/r2`,
  d1Persist: `${data}/d1`,
  name: "stores",
  modules: true,
  script: readFileSync(new URL("stores.js", import.meta.url), "utf8"),
  compatibilityDate: "2026-04-01",
  kvNamespaces: { KV: "kv" },
  r2Buckets: { R2: "r2" },
  d1Databases: { DB: "d1" },
  unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
});

await miniflare.ready;
console.log(String(await miniflare.unsafeGetDirectURL("stores")));
process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
