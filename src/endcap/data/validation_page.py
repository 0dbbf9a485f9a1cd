"""The result page of a validation: Great Expectations' own rendering in a page that needs no network.

The library's page loads its styles from five other sites; a closed network would show it bare. So its sections are rendered
here into a page that carries its style (`validation_page.css`), under a list of what failed in plain words.
"""

from __future__ import annotations

import copy
import html
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endcap.contracts import CheckResult
from endcap.data.atomic_write import write_atomically

_STYLE = Path(__file__).with_suffix(".css")


def write_page(result: Any, path: Path, title: str, checks: Sequence[CheckResult]) -> Path:
    """Render a suite's result (ExpectationSuiteValidationResult) into `path`, whole or not at all."""
    write_atomically(path, _page(title, checks, _sections(result, title)))
    return path


def write_index(pages: Mapping[Path, Sequence[CheckResult]], path: Path, title: str) -> Path:
    """Write the page of several suites' results: what failed in each, and the way to its own page (in the same folder)."""
    every = [check for checks in pages.values() for check in checks]
    links = "".join(
        f'<li><a href="{html.escape(page.name)}">{html.escape(page.stem)}</a>: {_verdict(checks)[0]}, '
        f"{sum(check.passed for check in checks)} of {len(checks)} checks passed</li>"
        for page, checks in pages.items()
    )
    write_atomically(path, _page(title, every, f"<ul>{links}</ul>"))
    return path


def _sections(result: Any, title: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own notices about its dependencies
        from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
        from great_expectations.render.view.view import DefaultJinjaSectionView

        result.meta.setdefault("run_id", {"run_name": title, "run_time": ""})
        result.meta["batch_kwargs"] = {"data_asset_name": title}
        shown = copy.copy(result)
        shown.results = [_countless(one) for one in result.results]
        document = ValidationResultsPageRenderer().render(shown).to_json_dict()
        view: Any = DefaultJinjaSectionView()
        parts = [
            view.render({"section": section, "section_loop": {"index": index}})
            for index, section in enumerate(document["sections"], start=1)
        ]
    return "\n".join(parts)


def _countless(one: Any) -> Any:
    """An expectation's result as the library's renderer can show it.

    Wherever there is a count it also reads a share of the rows, and logs a KeyError without. Expectations about distinct values
    count those, not rows, and give no share: their count is left to the list in plain words; their values are shown as ever.
    """
    if not one.result.get("unexpected_count") or "unexpected_percent" in one.result:
        return one
    shown = copy.copy(one)
    shown.result = {**one.result, "unexpected_count": 0}
    return shown


def _page(title: str, checks: Sequence[CheckResult], sections: str) -> str:
    failed = [check for check in checks if not check.passed]
    verdict, kind = _verdict(checks)
    findings = "".join(_finding(check) for check in sorted(failed, key=lambda check: not check.blocking))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{_STYLE.read_text(encoding="utf-8")}</style></head>
<body><header class="{kind}"><p>{html.escape(title)}</p><h1>{verdict}</h1>
<p>{len(checks) - len(failed)} of {len(checks)} checks passed.</p></header>
<main>{f'<ol class="findings">{findings}</ol>' if findings else ""}
{sections}</main></body></html>
"""


def _verdict(checks: Sequence[CheckResult]) -> tuple[str, str]:
    """(in words, as the class of the page's head)"""
    failed = [check for check in checks if not check.passed]
    if blocked := sum(check.blocking for check in failed):
        return f"Rejected: {blocked} blocking checks failed", "bad"
    return (f"Accepted with {len(failed)} warnings" if failed else "Accepted"), "good"


def _finding(check: CheckResult) -> str:
    kind = "blocking" if check.blocking else "warning"
    return (
        f'<li><span class="tag {kind}">{kind}</span> <strong>{html.escape(check.expected)}</strong>'
        f"<br>Found {html.escape(check.observed)} <code>{html.escape(check.name)}</code></li>"
    )
