"""What the server says about itself and its tenants: structured logs.

Every room of the runtime may import this one; it imports none of them. Lines go through a bounded buffer to a thread
that writes them, so that a slow terminal or a full pipe never holds up a request.
"""
