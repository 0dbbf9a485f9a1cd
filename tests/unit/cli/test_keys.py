"""`endcap keys` and `endcap audit` as an operator types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from endcap.cli import app
from endcap.errors import InputError, RecordInvalid
from endcap.serving.api_keys import split


def run(*arguments: str) -> tuple[str, str]:
    """What it prints: to stdout, to stderr."""
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_a_key_from_its_making_to_its_end(home: Path) -> None:
    assert "No key yet" in run("keys", "list")[0]
    out, told = run("keys", "create", "--role", "shop", "--label", "web-shop", "--days", "30", "--by", "ada")
    old = out.strip()  # the key alone, so that it can be piped into a vault
    key_id = split(old)
    assert key_id
    assert "shown this once" in told
    new = split(run("keys", "rotate", key_id, "--overlap-hours", "1", "--by", "ada")[0].splitlines()[0])
    assert new
    assert "revoked" in run("keys", "revoke", key_id, "--by", "bob")[0]
    listed = run("keys", "list")[0]
    assert key_id in listed
    assert new in listed
    assert old.split("_", 2)[2] not in listed
    shown = run("audit", "show")[0].splitlines()
    assert [line.split()[2] for line in shown] == ["key.created", "key.rotated", "key.revoked"]
    assert "by bob" in shown[2]
    entries = [json.loads(line) for line in run("audit", "show", "--json", "--last", "1")[0].splitlines()]
    assert [entry["subject"] for entry in entries] == [f"key {key_id}"]


def test_the_audit_log_is_verified_against_a_noted_head(home: Path) -> None:
    run("keys", "create", "--role", "reader", "--label", "grafana")
    head = run("audit", "verify")[0].splitlines()[1].removeprefix("head ")
    run("keys", "create", "--role", "reader", "--label", "grafana")
    assert "2 entries, 2 signed" in run("audit", "verify", "--head", head)[0]
    with pytest.raises(RecordInvalid, match="lost or rewritten"):
        run("audit", "verify", "--head", "f" * 64)


def test_a_key_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(InputError, match="endcap keys list"):
        run("keys", "revoke", "nope")
