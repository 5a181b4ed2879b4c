// Chooses one of many workers by X-User-ID, each a service binding, as a dispatch namespace does.
export default {
  async fetch(request, env) {
    const user = request.headers.get("X-User-ID");
    if (!user) return new Response("Missing X-User-ID header", { status: 400 });
    const worker = env[user];
    if (worker === undefined) return new Response("Worker not found", { status: 404 });
    return worker.fetch(request);
  },
};
