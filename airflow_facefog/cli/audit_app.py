"""``facefog audit …``: ask the record, verify it, keep it. One line here per command."""

from __future__ import annotations

import typer

from airflow_facefog.cli import (
    diff_policy_command,
    life_commands,
    query_commands,
    seal_command,
    shell_command,
    sql_commands,
    verify_command,
)

app = typer.Typer(help="Query, verify and keep the audit.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    pass


app.command("diff-policy")(diff_policy_command.diff_policy)
app.command("seal")(seal_command.seal)
app.command("head")(seal_command.head)
app.command("verify")(verify_command.verify)
app.command("query")(query_commands.query)
app.command("report")(query_commands.report)
app.command("show")(query_commands.show_image)
app.command("check")(query_commands.check)
app.command("shell")(shell_command.shell)
app.command("load")(sql_commands.load)
app.command("migrate")(sql_commands.migrate)
app.command("role")(sql_commands.role)
app.command("expire")(life_commands.expire)
