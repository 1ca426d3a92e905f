"""How do plots get into a page?  One document as JSON whose ids depend on its content alone, and Bokeh's script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.models import Model
from bokeh.resources import Resources
from markupsafe import Markup

Json = Any


def document_json(roots: Mapping[str, Model]) -> Markup:
    """A document of these roots with the element that each goes to, for a `<script type="application/json">`.

    Bokeh numbers its models through the life of the process; here they are numbered in the order of the document, so
    that the same plots give the same bytes.
    """
    document = Document(title="Tickstorm")
    with document.models.freeze():  # else every root walks the models of all others
        for root in roots.values():
            document.add_root(root)
    ids = {root.id: element for element, root in roots.items()}
    found = json.loads(serialize_json(document.to_json(deferred=False)))
    numbers: dict[str, str] = {}
    for name in _ids(found):
        numbers.setdefault(name, f"m{len(numbers) + 1}")
    _renumber(found, numbers)
    item = {"document": found, "roots": {numbers[name]: element for name, element in ids.items()}}
    return script_json(item)


def script_json(value: Json) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _ids(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("id"), str):
            yield node["id"]
        for value in node.values():
            yield from _ids(value)
    elif isinstance(node, list):
        for value in node:
            yield from _ids(value)


def _renumber(node: Json, numbers: Mapping[str, str]) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("id"), str):
            node["id"] = numbers[node["id"]]
        for value in node.values():
            _renumber(value, numbers)
    elif isinstance(node, list):
        for value in node:
            _renumber(value, numbers)


def bokeh_script() -> Markup:
    """Bokeh's core bundle, without widgets, tables, WebGL or MathJax."""
    texts = Resources(mode="inline", components=["bokeh"], log_level="error").js_raw
    return Markup("\n".join(texts).replace("</script", "<\\/script"))


def package_text(name: str) -> Markup:
    """A style sheet or script that lies beside this module."""
    return Markup(resources.files("loadtests.report").joinpath(name).read_text("utf-8"))
