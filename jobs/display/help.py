"""Help texts: commands grouped by what people do, one column of options, no types of flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Context settings of every command."""

Function = TypeVar("Function", bound=Callable[..., Any])

# Placeholders of values, by type. Choices name themselves.
_WORDS = {bool: "", str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}
_NO_BRACES = str.maketrans("", "", "{}")
_OTHERS = "Commands"


class Command(TyperCommand):
    """A command whose options show what to write, and flags nothing."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for option in self.params:
            if isinstance(option, TyperOption) and option.metavar is None:
                # A list is given by repeating the option.
                kind = option.bare_type().removeprefix("list[").removesuffix("]")
                words = {each.__name__: word for each, word in _WORDS.items()}
                option.metavar = words.get(kind)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command.

        Raises:
            UsageError: an option's value was left out, and another option would be taken for it; or
                a word is empty, as from a variable that is not set: the empty path is a folder.
        """
        if not ctx.resilient_parsing:
            self._check_values(ctx, args)
        return super().parse_args(ctx, args)

    def _check_values(self, ctx: Any, args: list[str]) -> None:
        takes_value = {
            name: isinstance(param, TyperOption) and not param.is_flag and not param.count
            for param in self.get_params(ctx)
            for name in (*param.opts, *param.secondary_opts)
            if name.startswith("-")
        }
        words, is_named = iter(args), True
        for word in words:
            is_named = is_named and word != "--"
            name, equals, value = word.partition("=") if is_named else (word, "", word)
            if not takes_value.get(name):
                value = word
            elif not equals:
                value = next(words, name)
                if is_named and value != name and value.partition("=")[0] in takes_value:
                    ctx.fail(
                        f"{name} needs a value, and {value} is another option; if it is the value, "
                        f"write {name}={value}"
                    )
            if not value:
                ctx.fail(
                    f"{name or 'an argument'} is empty; leave it out, or set the variable that it "
                    "is from"
                )

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line, required arguments without braces."""
        return [each.translate(_NO_BRACES) for each in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section of arguments, and one for each panel of options."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if isinstance(param, TyperArgument):
                panels["Arguments"].append((param.display_name_raw, record[1]))
            else:
                panel = getattr(param, "rich_help_panel", None) or "Options"
                panels.setdefault(panel, []).append(record)
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


class Group(TyperGroup):
    """A group of commands that prints its help if no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the name of the group."""
        return super().parse_args(ctx, args or ["--help"])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section of commands for each of their panels."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                # All of the sentence, which the formatter wraps.
                line = command.get_short_help_str(limit=200)
                panel = getattr(command, "rich_help_panel", None)
                panels.setdefault(panel if isinstance(panel, str) else _OTHERS, []).append(
                    (name, line)
                )
        width = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(name.ljust(width), line) for name, line in rows])


def group(name: str, text: str, epilog: str = "", *, completion: bool = False) -> typer.Typer:
    """Make a group of commands.

    Args:
        name: word on the command line.
        text: the first line of its help.
        epilog: the last lines of its help.
        completion: add options that set up the completion of words by a shell.
    """
    return typer.Typer(
        name=name,
        help=text,
        epilog=epilog,
        cls=Group,
        context_settings=SETTINGS,
        add_completion=completion,
        pretty_exceptions_enable=False,
        # Plain text: a table of five columns breaks names of options at 80 characters.
        rich_markup_mode=None,
    )


def command(
    app: typer.Typer, name: str, panel: str | None = None
) -> Callable[[Function], Function]:
    """Return a decorator that adds a function to a group as a command.

    Args:
        app: the group.
        name: word on the command line.
        panel: heading of the section of the group's help.
    """
    return app.command(name, cls=Command, context_settings=SETTINGS, rich_help_panel=panel)
