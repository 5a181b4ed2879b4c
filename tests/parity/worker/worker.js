import * as d1 from "./d1.js";
import { reset as resetKv } from "./kv.js";
import { serve } from "./operations.js";
import { describe as describeR2, reset as resetR2 } from "./r2.js";

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    if (name === "kv") return serve(request, env.KV, { reset: resetKv });
<<<<<<< HEAD
    if (name === "d1") return serve(request, env.D1, d1);
=======
    if (name === "r2") return serve(request, env.R2, { reset: resetR2, describe: describeR2 });
>>>>>>> 4051e93 (Read options and refuse arguments as Cloudflare's runtime does, to the letter)
    return new Response("no such binding", { status: 404 });
  },
};
