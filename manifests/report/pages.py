"""How a page is made of a template and of data that must not act: what `write_report` and `write_difference` share.

Three things keep data from acting: the template escapes every text; `plain` writes invisible characters out; a content security
policy in the page forbids scripts, any request and every style but the page's own, which it names by its hash. Data never
enters a style, a script or an attribute that means more than text.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from manifests import files
from manifests.errors import UsageError
from manifests.report import figures
from manifests.report.plain import plain, shortened


def require_file(out: Path) -> None:
    """Refuses to write a page over a folder.

    Raises:
        UsageError: ``out`` is one.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder: name the file to write, e.g. {out / 'report.html'}")


def write_page(out: Path, template: str, **values: Any) -> None:
    """Fills a template of this package and writes it whole or not at all."""
    made = environment()
    style = "\n" + made.get_template("style.html.jinja").render() + "\n"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = made.get_template(template).render(style=Markup(style), style_digest=digest, **values)
    files.write_bytes(out, _without_addresses(page).encode("utf-8", "backslashreplace"))


def _without_addresses(page: str) -> str:
    """Writes the colon of ``://`` as a character reference: a reader sees the same, no program takes it for a link."""
    return page.replace("://", "&#58;//")


def environment() -> jinja2.Environment:
    """Templates of this package, with the filters they use."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("manifests.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    made.filters.update(
        figure=figure, percent=percent, bytes=size, loss=loss, short=shortened, signed=signed, tokens=tokens, money=money
    )
    made.globals.update(bar=figures.bar, histogram=figures.histogram, two_lines=figures.two_lines, overlay=figures.overlay)
    return made


def figure(value: Any) -> str:
    """A number with thousands parted; anything else as it is; a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def signed(value: float | None) -> str:
    """A change, with its sign."""
    return "–" if value is None else f"{value:+,}" if value else "0"


def tokens(value: float | None) -> str:
    """A count in four figures and a unit: ``1.943 M``; below a million as it is."""
    if value is None:
        return "–"
    for limit, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if value >= limit:
            return f"{value / limit:.4g} {unit}"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def money(value: float | None) -> str:
    """US dollars; small amounts to two figures."""
    if value is None:
        return "–"
    return "0" if not value else f"{value:,.2f}" if value >= 0.1 else f"{value:.2g}"


def percent(value: Any) -> str:
    """A share."""
    return f"{value:.1%}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def loss(value: Any) -> str:
    """Nats, to three places."""
    return f"{value:.3f}" if isinstance(value, int | float) and not isinstance(value, bool) else "–"


def size(value: float | None) -> str:
    """Bytes with a unit."""
    value = value or 0
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:,.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
