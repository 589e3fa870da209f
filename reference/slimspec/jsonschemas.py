"""The JSON Schemas of `schemas/` as validators that resolve their references to each other."""

import json
from functools import cache

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from slimspec.data import folder


@cache
def validator(name: str) -> Draft202012Validator:
    """Return the validator of `schemas/{name}.schema.json`, e.g. validator("report").

    Raises:
        FileNotFoundError: there is no such schema.
    """
    if f"{name}.schema.json" not in _documents():
        raise FileNotFoundError(f"no schema named {name!r} in {folder('schemas')}")
    return Draft202012Validator(_documents()[f"{name}.schema.json"], registry=_registry())


@cache
def _documents() -> dict[str, dict]:
    files = folder("schemas").glob("*.schema.json")
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


@cache
def _registry() -> Registry:
    resources = ((name, Resource.from_contents(text)) for name, text in _documents().items())
    return Registry().with_resources(resources)
