// The reference platform's dispatcher for Miniflare: routes to RPC methods of the customer's worker.
export default {
  async fetch(request, env) {
    const user = request.headers.get("X-User-ID");
    if (!user) return new Response("Missing X-User-ID header", { status: 400 });
    const worker = env[user];
    if (worker === undefined) return Response.json({ error: "Worker not found" }, { status: 404 });
    const url = new URL(request.url);
    const route = `${request.method} ${url.pathname}`;
    if (route === "GET /") return new Response(`Dispatcher working! User: ${user}`);
    if (route === "GET /data") {
      const key = url.searchParams.get("key");
      return Response.json({ key, value: await worker.getData(key) });
    }
    if (route === "POST /data") {
      const { key, value } = await request.json();
      return Response.json(await worker.setData(key, value));
    }
    if (route === "GET /stats") return Response.json(await worker.getStats());
    if (route === "GET /files") {
      const file = await worker.getFile(url.searchParams.get("key"));
      return file === null ? new Response("File not found", { status: 404 }) : new Response(file);
    }
    if (route === "POST /files") {
      const form = await request.formData();
      return Response.json(await worker.uploadFile(form.get("key"), await form.get("file").arrayBuffer()));
    }
    return new Response("Not found", { status: 404 });
  },
};
