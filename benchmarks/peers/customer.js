// The reference tenant for Miniflare: files in R2, data in KV, called by RPC. Its bookkeeping is that of the public
// demo (one KV value for the file list, one for the log), so it loses counts under concurrency.
import { WorkerEntrypoint } from "cloudflare:workers";

export default class Customer extends WorkerEntrypoint {
  async fetch() {
    return new Response("Customer worker is running");
  }

  async uploadFile(key, content) {
    await this.env.USER_R2.put(key, content);
    const files = (await this.env.USER_KV.get("files:list", "json")) ?? [];
    files.push({ key, size: content.byteLength, uploaded: new Date().toISOString() });
    await this.env.USER_KV.put("files:list", JSON.stringify(files));
    return { success: true, key, size: content.byteLength };
  }

  async getFile(key) {
    const object = await this.env.USER_R2.get(key);
    return object === null ? null : object.body;
  }

  async setData(key, value) {
    await this.env.USER_KV.put(key, JSON.stringify(value));
    await this.#record("set", key);
    return { success: true, key };
  }

  async getData(key) {
    const value = await this.env.USER_KV.get(key, "json");
    await this.#record("get", key);
    return value;
  }

  async getStats() {
    const files = (await this.env.USER_KV.get("files:list", "json")) ?? [];
    const log = (await this.env.USER_KV.get("activity:log", "json")) ?? [];
    const [kv, r2] = [await this.env.USER_KV.list(), await this.env.USER_R2.list({ limit: 1000 })];
    return {
      files: { count: files.length, totalSize: files.reduce((sum, file) => sum + file.size, 0) },
      activity: { totalOperations: log.length, lastActivity: log.at(-1)?.timestamp ?? null },
      storage: { kvKeys: kv.keys.length, r2Objects: r2.objects.length },
    };
  }

  async #record(action, key) {
    const log = (await this.env.USER_KV.get("activity:log", "json")) ?? [];
    log.push({ action, key, timestamp: new Date().toISOString() });
    await this.env.USER_KV.put("activity:log", JSON.stringify(log.slice(-100)));
  }
}
