"""D1: each database an SQLite file, its SQL run in child processes that can be killed.

`binding` is what a guest calls, `database` what the host calls. `service` runs the child processes and decides whose
request runs next; `process` is the child, with `session`, `connection`, `authorizer`, `values` and `confinement`
behind it: only these touch SQLite. Nothing of the host's lives in a tenant's database file.
"""
