"""What decides a feature: one record of it, and one fingerprint of the record.

Two encoders with the same fingerprint give the same features for the same input, whatever they are called.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def with_fingerprint(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` (plain JSON values) and its ``fingerprint``: 16 hex digits of SHA-256 over its canonical JSON."""
    text = json.dumps(dict(record), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {**record, "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16]}


def digest(*parts: str) -> str:
    """16 hex digits of SHA-256 over texts, each told apart from the next."""
    found = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()[:16]
