"""Stands in for Pyodide, so that code written for Cloudflare's Python Workers runs here unchanged.

There is no JavaScript in this host: the conversions are no-ops.
"""
