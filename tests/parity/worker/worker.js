import * as d1 from "./d1.js";
import * as kv from "./kv.js";
import { serve } from "./operations.js";
import * as r2 from "./r2.js";

const BINDINGS = { d1, kv, r2 };

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    const binding = BINDINGS[name];
    if (binding === undefined) return new Response("no such binding", { status: 404 });
    return serve(request, env[name.toUpperCase()], binding);
  },
};
