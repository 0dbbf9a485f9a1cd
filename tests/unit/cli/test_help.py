"""The product can be learnt from `endcap --help`: every command and option says what it is, and stands on the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from endcap.cli import app
from endcap.cli.docs import commands_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


def commands(command: object, path: tuple[str, ...] = ("endcap",)) -> Iterator[tuple[str, object]]:
    yield " ".join(path), command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_a_command_and_its_options_say_what_they_are(name: str) -> None:
    command = ALL[name]
    assert len(command.help or "") > 20  # type: ignore[attr-defined]
    for option in command.params:  # type: ignore[attr-defined]
        assert getattr(option, "help", None), f"{name} {option.name} has no help"


def test_the_page_is_as_the_commands_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == commands_page(app)


@pytest.mark.parametrize(
    "name", ["demo", "up", "down", "status", "ingest", "rollback", "lineage", "reproduce", "serve", "monitor"]
)
def test_the_commands_of_the_loop_are_there(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
