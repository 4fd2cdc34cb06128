"""The `st-pipeline` command: the short and the scriptable way to what the Dagster UI does."""

from __future__ import annotations

import sys
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from st_pipeline import __version__
from st_pipeline.errors import InputError

COMMANDS = {
    "demo": "run",
    "run": "run",
    "ui": "ui",
    "streams": "look",
    "leaderboard": "look",
    "report": "look",
    "results": "results",
    "reproduce": "reproduce",
    "bench": "bench",
    "explain": "explain",
    "champion": "champion",
    "promote": "champion",
    "rollback": "champion",
    "shadow": "champion",
    "freeze": "champion",
    "unfreeze": "champion",
    "sensors": "sensors",
    "coldstart": "coldstart",
    "advise": "advise",
    "forecast": "forecast",
    "export-model": "export_model",
    "import-checkpoint": "import_checkpoint",
    "predict": "predict",
    "check": "check",
    "new": "new",
    "plan": "plan",
    "alerts": "alerts",
    "import": "interchange",
    "export": "interchange",
    "doctor": "doctor",
    "gc": "gc",
    "backup": "backup",
    "restore": "backup",
}


class LazyGroup(click.Group):
    """Commands whose module is imported when they are used; bad input ends in one sentence and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"st_pipeline.cli.{COMMANDS[cmd_name]}")
        name = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name.replace("-", "_")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from st_pipeline.errors import closest

        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise InputError(f"there is no command {args[0]!r}; {closest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except InputError as error:
            click.echo(f"st-pipeline: {error}", err=True)
            sys.exit(2)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="st-pipeline")
def main() -> None:
    """Continual forecasting for sensor networks that grow.

    State lies under ST_PIPELINE_HOME (default .st_pipeline), raw data under ST_PIPELINE_DATA (default data).
    """
