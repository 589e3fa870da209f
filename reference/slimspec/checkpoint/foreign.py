"""Recognise what is often saved under the name of a weights file.

Source: users.md 1.2 row 111 and 1.3 (today's readers say "header too large" to all of these).
"""

from typing import NamedTuple


class Foreign(NamedTuple):
    """A recognised foreign file: defect code and what it is."""

    code: str
    found: str


def recognise(start: bytes) -> Foreign | None:
    """Name the kind of a file that is not safetensors from its first bytes; None if unknown."""
    if not start:
        return Foreign("empty-file", "the file is empty (0 bytes)")
    if start.startswith(b"version https://git-lfs"):
        return Foreign("lfs-pointer", "a git-LFS pointer, not the weights: run `git lfs pull`")
    if start.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return Foreign("html-page", "a web page saved under the name of a weights file")
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return Foreign("pickle", "a zip or pickle file (PyTorch .bin/.pt); it is never loaded")
    if start.startswith(b"GGUF"):
        return Foreign("gguf", "a GGUF file")
    if not any(start) and len(start) >= 8:
        return Foreign("zero-header", "the file starts with zeros (an unfinished download)")
    return None
