"""The front page of the service: one glance for a person, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from html import escape

from endcap.config import Settings
from endcap.serving.schemas import ModelState, Readiness

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c0392b; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
h1 { margin: 0 } h2 { margin: 2rem 0 .5rem; font-size: 1.1rem } .sub { opacity: .7; margin: 0 0 1.5rem }
.state { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; color: #fff; background: var(--good) }
.state.bad { background: var(--bad) } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 500; opacity: .7; width: 11rem } td { overflow-wrap: anywhere }
pre { background: #8882; padding: .8rem; border-radius: .5rem; overflow-x: auto; font-size: .85rem }
ul { padding-left: 1.2rem }
"""


def page(model: ModelState, ready: Readiness, settings: Settings, keys_demanded: bool) -> str:
    """The page as HTML."""
    key = ' \\\n  -H "Authorization: Bearer $KEY"' if keys_demanded else ""
    good = ready.ready and not ready.degraded
    label = "all well" if good else "degraded" if ready.ready else "not ready"
    degraded = "".join(f"<li>{escape(line)}</li>" for line in ready.degraded)
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _facts(model))
    links = "".join(
        f'<li><a href="{escape(url, quote=True)}">{escape(name)}</a>: {escape(what)}</li>'
        for name, url, what in _links(settings)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Endcap: the service</title>
<style>{STYLE}</style></head><body>
<h1>Endcap</h1><p class="sub">What stands on the shelf at the end of the aisle.</p>
<p><span class="state{"" if good else " bad"}">{label}</span></p><ul>{degraded}</ul>
<h2>The model that serves</h2><table>{rows}</table>
<h2>Ask for a slate</h2>
<pre>curl -s {escape(settings.serving_url)}/v1/recommendations -H 'Content-Type: application/json'{key} \\
  -d '{{"user_id": "17850", "surface": "home", "k": 5, "explain": true}}'</pre>
<h2>Say what a shopper did</h2>
<pre>curl -s {escape(settings.serving_url)}/v1/events -H 'Content-Type: application/json'{key} \\
  -d '[{{"event_id": "e-1", "type": "view", "user_id": "17850", "item_id": "84077", "time": "2026-11-07T10:00:00Z"}}]'</pre>
<h2>More</h2><ul>{links}</ul>
</body></html>
"""


def _facts(model: ModelState) -> list[tuple[str, str]]:
    if model.model_version is None:
        facts = [("version", "none: slates show what sold most, marked fallback=true")]
    else:
        loaded = f"{model.loaded_at:%Y-%m-%d %H:%M:%S} UTC, from {model.source}" if model.loaded_at else ""
        facts = [
            ("version", f"{model.model_version} ({model.kind})"),
            ("trained on", model.dataset_version or ""),
            ("approved by", model.approved_by or ""),
            ("items", f"{model.items:,}"),
            ("code", model.code_commit or ""),
            ("digest", model.digest or ""),
            ("taken", loaded),
        ]
    if model.refused:
        facts.append(("refused", f"model {model.refused.model_version}: {model.refused.reason}"))
    return facts


def _links(settings: Settings) -> list[tuple[str, str, str]]:
    shop = [("Storefront", "/shop", "see what shoppers see, and why")] if settings.storefront else []
    return [
        *shop,
        ("Operator", "/operator", "click and purchase rates, fallbacks, latency, rules"),
        ("API", "/docs", "every route, with examples to try"),
        ("OpenAPI", "/openapi.json", "the same for programs"),
        ("Model", "/v1/model", "what serves, as JSON"),
        ("Canary", "/canary", "a candidate on part of the shoppers: step, guards, decisions"),
        ("Readiness", "/readyz", "what is worse than it should be, as JSON"),
        ("Metrics", "/metrics", "for Prometheus"),
        ("Airflow", settings.airflow_url, "the loop: ingest, train, gates, approval"),
        ("MLflow", settings.mlflow_url, "the model registry"),
        ("Evidently", settings.evidently_url, "drift reports"),
    ]
