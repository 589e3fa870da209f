"""Modules that stay float, by name: the one reader of `schemas/layer_names.json`."""

import json
import re
from functools import cache

from slimspec.data import folder


@cache
def _patterns(requirement: str | None = None, role: str | None = None) -> re.Pattern[str]:
    text = (folder("schemas") / "layer_names.json").read_text(encoding="utf-8")
    parts = [
        _regex(name) + (r"(\.|$)" if group.get("within") else "$")
        for group in json.loads(text)["groups"]
        if requirement in (None, group.get("requirement")) and role in (None, group["role"])
        for name in group["names"]
    ]
    return re.compile(rf"(^|\.)({'|'.join(parts) or '(?!)'})")


@cache
def _endings(requirement: str) -> tuple[str, ...]:
    """How every module that `judged_by` a requirement ends."""
    text = (folder("schemas") / "layer_names.json").read_text(encoding="utf-8")
    return tuple(
        "" if group.get("within") else name.rpartition("*")[2]
        for group in json.loads(text)["groups"]
        if group.get("requirement") == requirement
        for name in group["names"]
    )


def _regex(name: str) -> str:
    return re.escape(name).replace(r"\*", "[^.]*")


def stays_float(module: str) -> bool:
    """True if quantizers leave a module of that name float: heads, routers, embeddings, …"""
    return _patterns().search(module) is not None


def judged_by(requirement: str, module: str) -> bool:
    """True if a requirement ("NUM-006", …) says that a module of that name is float."""
    return (  # most names end otherwise, which is told faster than by a search
        module.endswith(_endings(requirement)) and _patterns(requirement).search(module) is not None
    )


def of_role(role: str, module: str) -> bool:
    """True if a module of that name has the role ("head", "embedding", …) in its model."""
    return _patterns(role=role).search(module) is not None
