// The KV namespace before a list of operations.
export async function reset(kv) {
  let page;
  do {
    page = await kv.list({ cursor: page?.cursor });
    for (const key of page.keys) await kv.delete(key.name);
  } while (!page.list_complete);
}
