"""The management API: scripts and their versions, KV, R2, D1 and tokens, in the shapes of Cloudflare's API v4.

`runtime.server` serves the application on its own port, on the loopback interface only. Everything that comes in here
is hostile until the token has been seen, and uploads stay so after it.
"""

from runtime.control.application import create_control_application
from runtime.control.token import load_admin_token

__all__ = ["create_control_application", "load_admin_token"]
