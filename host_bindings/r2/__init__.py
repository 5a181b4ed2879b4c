"""R2: a tenant's buckets of objects, whose bytes are files and whose metadata is SQLite.

`store` keeps them and knows nothing of guests; `binding` is what a guest imports: validation, limits and error texts.
"""
