"""What the embedded stores share: SQLite files with group commit, the few threads that serve all of them, and the
directory operations that survive a power failure.

KV and R2 build on it; nothing here knows of either, of wasm or of tenants.
"""
