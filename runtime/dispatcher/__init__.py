"""HTTP in: which tenant is asked for, may this caller ask, run the tenant's code, stream the answer back.

`runtime.server` makes a `Dispatcher` and listens with it; the operator's own code sees `DispatchNamespace` and its
stubs. The room owns HTTP's framing in both directions: what a caller or a tenant says about lengths, connections and
encodings of transfer never passes through.
"""

from runtime.dispatcher.errors import RemoteError, WorkerNotFound

__all__ = ["RemoteError", "WorkerNotFound"]
