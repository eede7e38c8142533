"""Rendering of the project's templates with escaped values.

The environment escapes every printed value for HTML and control characters, so that templates need
not do so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from restyle.core.shown_text import visible, visible_lines, visible_strings


def render_page(template: str, values: Mapping[str, Any], **filters: Callable[..., Any]) -> bytes:
    """Render a template.

    Args:
        template: a file of ``pipeline/templates``.
        values: variables of the template. Strings are escaped to one line, or with the filter
            ``lines`` to several; ``tojson`` escapes all strings in a value.
        filters: further filters by name; ``all_of`` is one of all pages.

    Returns:
        The page in UTF-8.
    """
    import jinja2
    from markupsafe import Markup, escape

    def shown(value: object) -> object:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("restyle.pipeline"),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    as_script = environment.filters["tojson"]
    environment.filters |= {
        "all_of": all_of,
        "lines": lambda value: Markup(escape(visible_lines(value))),  # noqa: S704 (escaped)
        "tojson": jinja2.pass_eval_context(
            lambda context, value: as_script(context, visible_strings(value))
        ),
        **filters,
    }
    return environment.get_template(template).render(**values).encode()


def all_of(count: int) -> str:
    """Say that nothing is left out: ``All 60 of them.``, a sentence."""
    return "The only one." if count == 1 else f"All {count:,} of them."
