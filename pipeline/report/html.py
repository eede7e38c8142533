"""Pages from the project's templates, with everything that stands in them made safe.

Every value that a template prints is made visible and escaped for HTML by its environment, not by
the template, so that no template can forget to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from restyle.core.shown_text import visible, visible_lines, visible_strings


def render_page(template: str, values: Mapping[str, Any], **filters: Callable[..., Any]) -> bytes:
    """Fill in a template.

    Args:
        template: a file of ``pipeline/templates``.
        values: what stands in it. Strings are shown on one line, unless the
            template has them go through its filter ``lines``; those that ``tojson`` writes into a
            script are made visible with all that they lie in.
        filters: more filters, by name.

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
        "lines": lambda value: Markup(escape(visible_lines(value))),  # noqa: S704 (escaped)
        "tojson": jinja2.pass_eval_context(
            lambda context, value: as_script(context, visible_strings(value))
        ),
        **filters,
    }
    return environment.get_template(template).render(**values).encode()
