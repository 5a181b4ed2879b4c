// Runs worker.js on Miniflare: `node serve.mjs INSTALLATION`. INSTALLATION has node_modules. Prints the worker's address
// on a line and runs until its input ends.
import { createRequire } from "node:module";
import { join } from "node:path";

const here = import.meta.dirname;
const [installation] = process.argv.slice(2);
const { Log, LogLevel, Miniflare } = createRequire(join(installation, "package.json"))("miniflare");

const miniflare = new Miniflare({
  log: new Log(LogLevel.NONE),
  workers: [
    {
      name: "worker",
      modules: true,
      modulesRoot: here,
      modulesRules: [{ type: "ESModule", include: ["**/*.js"] }],
      scriptPath: join(here, "worker.js"),
      compatibilityDate: "2026-04-01",
      compatibilityFlags: ["nodejs_compat"],
      unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
      kvNamespaces: { KV: "kv" },
      r2Buckets: { R2: "r2" },
      d1Databases: { D1: "d1" },
    },
  ],
});
await miniflare.ready;
console.log(String(await miniflare.unsafeGetDirectURL("worker")));
process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
