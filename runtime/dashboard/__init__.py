"""The dashboard: the management API's picture for people, as pages that the server renders.

It has sessions in place of bearer tokens and no rights of its own: a session may do what the token may that opened it.
Whatever a tenant names or stores is hostile text here, and only ever text.
"""

from runtime.dashboard.application import add_dashboard

__all__ = ["add_dashboard"]
