"""`self.env`: what is bound to the worker, by name. Storage bindings call the host; the others are plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers import host
from workers.d1 import D1Database
from workers.kv import KvNamespace
from workers.r2 import R2Bucket
from workers.values import load

_STORAGE = {"kv_namespace": KvNamespace, "r2_bucket": R2Bucket}


def environment() -> dict[str, Any]:
    """What is bound, by name. Asks the host."""
    return {name: _bound(name, binding) for name, binding in load(host.environment.bindings()).items()}


def _bound(name: str, binding: Mapping[str, Any]) -> Any:
    if binding["type"] == "d1":
        return D1Database(name, bool(binding.get("js_types")))
    storage = _STORAGE.get(binding["type"])
    if storage is not None:
        return storage(name)
    return binding["json"] if binding["type"] == "json" else binding["text"]
