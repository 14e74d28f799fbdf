"""The command line itself, without starting anything."""

import pytest
from typer.testing import CliRunner

from src import __version__
from src.main import app

COMMANDS = ("run", "demo", "doctor", "record", "replay", "traders", "deadletters")


@pytest.fixture
def invoke(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_help_names_every_command_and_fits_a_terminal_line_each(invoke):
    shown = invoke("--help")
    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    for command in COMMANDS:
        assert sum(line.split()[:1] == [command] for line in lines) == 1, command
    assert not [line for line in lines[2:] if line.rstrip().endswith("...")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_what_it_does(invoke, command):
    shown = invoke(command, "--help")
    assert shown.exit_code == 0
    assert len(shown.output.split("\n\n")[1].split()) >= 5


def test_version_is_printed_alone(invoke):
    shown = invoke("--version")
    assert (shown.exit_code, shown.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize("arguments", [["traders", "ad"], ["replay"], ["record", "--seconds", "0"], ["--nonsense"]])
def test_a_slip_in_the_command_is_an_error_with_exit_code_2(invoke, arguments):
    shown = invoke(*arguments)
    assert shown.exit_code == 2
    assert "Traceback" not in shown.output
