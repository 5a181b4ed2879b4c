"""Static linking of a base: the core modules that componentize-py has put together become one.

componentize-py links CPython, libc and its own runtime as shared libraries: a dozen core modules that call each other
through imports, reach their own data through a base address, and each other's through a table of addresses. All of
this is settled once the base has been made. Linked into one module, a call is a direct call, an address a constant,
and there is one instance to make instead of a dozen, with a few imports instead of thousands to check.
"""

from guest_sdk.build.linking.component import link

__all__ = ["link"]
