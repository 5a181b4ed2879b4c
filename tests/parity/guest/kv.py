"""The KV namespace before a list of operations."""


async def reset(kv):
    cursor = None
    while True:
        page = await kv.list(cursor=cursor)
        for key in page["keys"]:
            await kv.delete(key["name"])
        cursor = page.cursor
        if page.list_complete:
            return
