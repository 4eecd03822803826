"""`em-inspect`: every command that --help names is there and has a help text of its own."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from em_inspect.cli import COMMANDS, main


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_an_unknown_command_is_one_line_and_exit_code_2() -> None:
    result = CliRunner().invoke(main, ["reprot"])
    assert result.exit_code == 2
    assert "No such command 'reprot'" in result.output
