"""Several server processes as one server: started together, started again when they crash, stopped together.

The supervisor (`supervisor`) is a small process that serves nothing and runs no guest: it holds the listening sockets
and shares them out, sees who was running when a process died, and stops workers that crash processes again and again
(`breaker`). Its children (`child`) are the server of `runtime.server`. They talk in `messages`.
"""
