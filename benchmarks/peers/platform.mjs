// Serves the reference platform on Miniflare in its fastest configuration: the dispatcher's own socket, without
// Miniflare's Node proxy in front, no console log: `node platform.mjs INSTALLATION DATA`. INSTALLATION has node_modules.
// Prints the address on one line and runs until its input ends.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [installation, data] = process.argv.slice(2);
const { Log, LogLevel, Miniflare } = createRequire(join(installation, "package.json"))("miniflare");

const here = new URL(".", import.meta.url);
const script = (name) => readFileSync(new URL(name, here), "utf8");
const users = ["user1", "user2"];

const miniflare = new Miniflare({
  log: new Log(LogLevel.NONE),
  host: "127.0.0.1",
  kvPersist: `${data}/kv`,
  r2Persist: `${data}/r2`,
  workers: [
    {
      name: "dispatcher",
      modules: true,
      script: script("platform_dispatcher.js"),
      compatibilityDate: "2026-04-01",
      serviceBindings: Object.fromEntries(users.map((user) => [user, `customer-${user}`])),
      unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }],
    },
    ...users.map((user) => ({
      name: `customer-${user}`,
      modules: true,
      script: script("customer.js"),
      compatibilityDate: "2026-04-01",
      kvNamespaces: { USER_KV: `kv-${user}` },
      r2Buckets: { USER_R2: `r2-${user}` },
    })),
  ],
});

await miniflare.ready;
console.log(String(await miniflare.unsafeGetDirectURL("dispatcher")));
process.stdin.resume();
process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
