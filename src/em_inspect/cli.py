"""`em-inspect`: the commands beside Inspect's own."""

from __future__ import annotations

import importlib
from typing import Any

import click

import em_inspect

# Name: where the command lives, and its line in --help (so that --help imports none of them).
COMMANDS = {
    "demo": ("em_inspect.demo:demo", "Fine-tune and evaluate a small model, start to finish."),
    "tasks": ("em_inspect.plugins.commands:tasks", "List the tasks that are installed."),
    "quote": (
        "em_inspect.quoting.commands:quote",
        "Say what a run will take and cost.",
    ),
    "calibrate": ("em_inspect.calibration.commands:calibrate", "Test a judge on labelled answers."),
    "label": ("em_inspect.calibration.commands:label", "Draw answers for people to label, blind."),
    "rescore": ("em_inspect.judging.commands:rescore", "Read old logs by other lines or rules."),
    "report": ("em_inspect.analysis.commands:report", "Turn logs into a report."),
    "publish": (
        "em_inspect.analysis.commands:publish",
        "Bundle a report and its logs for the web",
    ),
    "power": ("em_inspect.analysis.commands:power", "Say how many seeds and samples are needed."),
    "model": ("em_inspect.embedded.commands:model", "Get the embedded model."),
    "new-plugin": ("em_inspect.plugins.commands:new_plugin", "Start a package of your own tasks."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are met."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(em_inspect.__version__, prog_name="em-inspect")
def main(**_: Any) -> None:
    """Measure emergent misalignment with Inspect AI.

    Evaluate a model:  inspect eval em_inspect/free_form --model openai/gpt-4o-mini

    Look at results:   inspect view
    """
