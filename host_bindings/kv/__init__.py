"""KV: a tenant's namespaces of small values, with metadata and expiry.

`store` keeps them and knows nothing of guests; `binding` is what a guest imports: validation, limits and error texts.
"""
