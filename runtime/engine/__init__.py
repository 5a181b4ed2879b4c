"""wasmtime as this host uses it: components, values, fibers, instances and their pools, meters and limits.

The engine knows nothing of HTTP, of tenants' names or of where code comes from. The dispatcher enters through `pool`,
artifacts through `compile`; everything native is in `native`.
"""
