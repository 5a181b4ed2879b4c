import { reset as resetKv } from "./kv.js";
import { serve } from "./operations.js";

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    if (name === "kv") return serve(request, env.KV, { reset: resetKv });
    return new Response("no such binding", { status: 404 });
  },
};
