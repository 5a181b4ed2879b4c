// A worker that answers as little as possible; the yardstick for dispatch and for a bare call.
export default {
  async fetch() {
    return new Response("hello", { headers: { "content-type": "text/plain" } });
  },
};
