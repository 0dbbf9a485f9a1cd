"""The API page at /docs, made from the OpenAPI description. It loads nothing from elsewhere: no network needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

from endcap.serving.landing import STYLE

_OWN_STYLE = """
body { max-width: 58rem } section { margin: 2.5rem 0; padding-top: 1rem; border-top: 2px solid var(--line) }
.verb { font: 600 .85rem/1 ui-monospace, monospace; padding: .3rem .6rem; border-radius: .4rem; color: #fff }
.verb.post { background: #2563eb } .verb.get { background: var(--good) } h2 code { font-size: 1.05rem }
th { width: auto } td small { opacity: .7 } td:first-child { white-space: nowrap }
nav a { margin-right: 1rem } h3 { font-size: .95rem; margin: 1.2rem 0 .3rem }
"""
Json = dict[str, Any]


def reference(page: Json, url: str) -> str:
    """HTML for the OpenAPI description `page`; examples call the service at `url`."""
    calls = [(path, verb, call) for path, verbs in page["paths"].items() for verb, call in verbs.items()]
    links = "".join(f'<a href="#{call["operationId"]}">{escape(path)}</a>' for path, _, call in calls)
    sections = "".join(_section(page, url, path, verb, call) for path, verb, call in calls)
    info = page["info"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Endcap: the API</title><style>{STYLE}{_OWN_STYLE}</style></head><body>
<h1>{escape(info["title"])} API</h1><p class="sub">{escape(info["summary"])} Version {escape(info["version"])},
<a href="/openapi.json">OpenAPI</a>, <a href="/">what serves now</a></p>{_prose(info["description"])}<nav>{links}</nav>
{sections}</body></html>
"""


def _section(page: Json, url: str, path: str, verb: str, call: Json) -> str:
    title = f'<span class="verb {verb}">{verb.upper()}</span> <code>{escape(path)}</code>'
    parts = [f'<section id="{call["operationId"]}"><h2>{title}</h2>']
    parts.append(f"<p><strong>{escape(call['summary'])}</strong></p>{_prose(call.get('description', ''))}")
    given = [(p["name"], p["schema"], p["required"]) for p in call.get("parameters", ())]
    content = call.get("requestBody", {}).get("content", {}).get("application/json", {})
    given += list(_fields(page, content.get("schema", {})))
    if given:
        parts.append("<h3>You send</h3>" + _table(given))
    parts.append(f"<pre>{escape(_curl(page, url, path, content))}</pre>")
    answers = call["responses"]
    good = next(status for status in answers if status.startswith("2"))
    schema = answers[good].get("content", {}).get("application/json", {}).get("schema", {})
    if fields := list(_fields(page, schema)):
        parts.append(f"<h3>You get ({good})</h3>" + _table(fields))
    problems = ", ".join(f"{status} {escape(answer['description'])}" for status, answer in answers.items() if status >= "3")
    if problems:
        parts.append(f"<p><small>Problems: {problems}</small></p>")
    return "".join(parts) + "</section>"


def _fields(page: Json, schema: Json, prefix: str = "") -> Iterator[tuple[str, Json, bool]]:
    """(name, schema, required) of every field, nested ones with a dotted name."""
    schema = _resolve(page, schema)
    if schema.get("type") == "array":
        yield from _fields(page, schema["items"], f"{prefix}[].")
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield prefix + name, {**_resolve(page, field), **field}, name in required
        inner = _resolve(page, field)
        is_list = inner.get("type") == "array"
        yield from _fields(page, inner["items"] if is_list else inner, f"{prefix}{name}{'[]' if is_list else ''}.")


def _resolve(page: Json, schema: Json) -> Json:
    """The schema behind a reference, or behind "this or null"."""
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            return {**_resolve(page, choice), **{k: v for k, v in schema.items() if k != "anyOf"}}
    if "$ref" in schema:
        found: Json = page["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _table(fields: list[tuple[str, Json, bool]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if required else ''}</td><td>{_kind(field)}</td>"
        f"<td>{_inline(field.get('description', ''))}</td></tr>"
        for name, field, required in fields
    )
    return f"<table><tr><th>field</th><th>type</th><th>meaning (* required)</th></tr>{rows}</table>"


def _kind(field: Json) -> str:
    if values := field.get("enum"):
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in values)
    kind = f"{field.get('format') or field.get('type', 'any')}"
    default = field.get("default")
    return escape(kind) + (f" <small>default {escape(json.dumps(default))}</small>" if default not in (None, {}, []) else "")


def _curl(page: Json, url: str, path: str, content: Json) -> str:
    path = path.replace("{item_id}", "84077")
    if not content:
        return f"curl -s {url}{path}"
    schema = _resolve(page, content["schema"])
    example = content.get("example") or schema["examples"][0]
    return f"curl -s {url}{path} -H 'Content-Type: application/json' -d '{json.dumps(example, indent=2)}'"


def _prose(markdown: str) -> str:
    blocks = [block.strip() for block in markdown.split("\n\n") if block.strip()]
    return "".join(_list(block) if re.match(r"1\. ", block) else f"<p>{_inline(block)}</p>" for block in blocks)


def _list(block: str) -> str:
    return "<ol>" + "".join(f"<li>{_inline(line)}</li>" for line in re.split(r"(?m)^\d+\. ", block) if line.strip()) + "</ol>"


def _inline(text: str) -> str:
    """Code, bold and links of Markdown."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2">\1</a>', text)
