"""Self-contained HTML pages: stylesheet and content security policy of the script.

This module does not import PyTorch.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mammo.evaluation.number_format import count, duration, interval, number

TEMPLATES = Path(__file__).parent / "templates"


def render_page(
    template: Path,
    context: Mapping[str, Any],
    *,
    script: Path,
    style: Path | None = None,
    finalize: Callable[[Any], Any] | None = None,
    **filters: Callable[..., Any],
) -> str:
    """Render the page as HTML; every text of the context is escaped.

    Args:
        template: template that uses `style`, `script` and, in its content security policy, `script_hash`.
        context: other variables of the template.
        script: script of the page, a template of plain words among the variables, after the common ones.
        style: additional stylesheet of the page, after the common one.
        finalize: `finalize` of the Jinja environment.
        filters: additional filters, besides `number`, `interval`, `count` and `duration`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters.update(number=number, interval=interval, count=count, duration=duration, **filters)
    scripts = (TEMPLATES / "scroll_hint.js", TEMPLATES / "sortable.js", script)
    code = "".join(
        jinja2.Template(s.read_text(), keep_trailing_newline=True).render(context) for s in scripts
    )
    styles = [file.read_text() for file in (TEMPLATES / "report.css", style) if file]
    return environment.get_template(template.name).render(
        **context,
        style=Markup("".join(styles)),
        script=Markup(code),
        # only the page's own script may run, even if the data contain another one
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )
