import * as d1 from "./d1.js";
import { reset as resetKv } from "./kv.js";
import { serve } from "./operations.js";

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    if (name === "kv") return serve(request, env.KV, { reset: resetKv });
    if (name === "d1") return serve(request, env.D1, d1);
    return new Response("no such binding", { status: 404 });
  },
};
