"""Names to what a destination can hold: one function a destination.

Models, data sets, probes and conditions are named by files of anybody. No such name becomes a path, or drives a
terminal, as it is.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LONGEST = 80
_DIGEST = 10
_FINE = re.compile(r"[a-z0-9_][a-z0-9_.+-]*")
_PORTS = "0123456789¹²³"
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in _PORTS}
)


def file_name(text: str) -> str:
    """The one component of a path that stands for a name, on every file system.

    Lower-case ASCII letters, digits and ``._+-`` stay; everything else becomes a hyphen. A name that was changed ends
    in 10 hex digits of SHA-256 over the whole of it, so that distinct names have distinct files: also names that differ
    in case only (file systems that ignore it), look-alikes (a Cyrillic a), and other forms of one text (NFKC).

    ``~`` never stays, so no name can be chosen to be taken for a changed one.

    Returns:
        1 to 80 ASCII characters; never ``.``, ``..``, hidden, a separator, a device's name, or with a trailing dot.
    """
    if _FINE.fullmatch(text) and len(text) <= _LONGEST and _portable(text):
        return text
    plain = unicodedata.normalize("NFKC", text)
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "-", plain)
    plain = re.sub(r"\.{2,}", ".", plain).strip(".-")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    plain = plain[: _LONGEST - _DIGEST - 1].rstrip(".-") or "unnamed"
    if not _portable(plain):
        plain = f"_{plain}"[: _LONGEST - _DIGEST - 1]
    return f"{plain}~{digest}"


def _portable(name: str) -> bool:
    """Whether no system takes a name for a device, the parent folder, or another file."""
    return name.split(".")[0].lower() not in _DEVICES and ".." not in name and not name.endswith(".")


_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def unprintable(text: str) -> bool:
    """Whether a text holds characters that drive a terminal or do not show: controls, directions, halves of pairs."""
    return bool(_UNPRINTABLE.search(text))
