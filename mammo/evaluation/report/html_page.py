"""Self-contained HTML pages: stylesheet, content security policy of the script, formats of numbers.

Nothing here needs PyTorch.
"""

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

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
    """The page as HTML, every text of the context escaped.

    Args:
        template: sets `style` and `script` in, and `script_hash` into its content security policy.
        context: what else the template names.
        script: script of the page.
        style: stylesheet of this page, added to the common one.
        finalize: `finalize` of the Jinja environment.
        filters: besides `number`, `interval`, `count` and `duration`.
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
    code = script.read_text()
    styles = [file.read_text() for file in (TEMPLATES / "report.css", style) if file]
    return environment.get_template(template.name).render(
        **context,
        style=Markup("".join(styles)),
        script=Markup(code),
        # the page's own script runs and no other, even if one came in with the data
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )


def estimate(value: Any) -> tuple[float | None, float | None, float | None]:
    """Value, low and high of `{"value", "low", "high"}` or of a number; None for what is not there."""
    parts = value if isinstance(value, Mapping) else {"value": value}
    found = [
        float(part) if isinstance(part, int | float) and math.isfinite(part) else None
        for part in (parts.get(name) for name in ("value", "low", "high"))
    ]
    return found[0], found[1], found[2]


def number(value: Any, digits: int = 3) -> str:
    """A number with the given digits after the point, an en dash for none."""
    found, _, _ = estimate(value)
    return "–" if found is None else f"{found:.{digits}f}"


def interval(value: Any) -> str:
    """`0.574 to 0.729` of an estimate; empty without an interval."""
    _, low, high = estimate(value)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def count(value: Any) -> str:
    """A whole number with a blank between thousands, an en dash for none."""
    found, _, _ = estimate(value)
    return "–" if found is None else f"{found:,.0f}".replace(",", " ")


def duration(seconds: Any) -> str:
    """`14 min 56 s`, or `2 h 5 min`."""
    found, _, _ = estimate(seconds)
    if found is None:
        return "–"
    minutes, rest = divmod(math.ceil(found), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
