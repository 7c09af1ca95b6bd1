"""One self-contained HTML page: words, tables, pictures, and no reference to anything outside the file."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gendyn.data import atomic_path
from gendyn.plotting.style import figure_of

__all__ = ["Page", "combine"]

_CSS = """
:root{color-scheme:light dark;--ink:#222;--soft:#666;--line:#ddd;--paper:#fff;--card:#f6f6f4;--accent:#d1495b}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--soft:#a8a8a8;--line:#3a3a3a;--paper:#17181a;--card:#222427}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.2rem 4rem}h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem}
h2{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:.8rem;border-top:1px solid var(--line)}
.sub{color:var(--soft);margin:0 0 1.4rem}figure{margin:1.2rem 0}figure img{max-width:100%;height:auto;background:#fff;
border-radius:6px}figcaption{color:var(--soft);font-size:.9rem;margin-top:.3rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;margin:.8rem 0}
th,td{padding:.28rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}tr.best td{font-weight:700}
pre{background:var(--card);padding:.8rem 1rem;border-radius:6px;overflow-x:auto;font-size:.85rem}
.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}.card{background:var(--card);border-radius:8px;
padding:.8rem 1.1rem;min-width:9rem}.card b{display:block;font-size:1.5rem;color:var(--accent)}
.card span{color:var(--soft);font-size:.85rem}nav ul{padding-left:1.1rem}summary{cursor:pointer;color:var(--soft)}
"""


class Page:
    """A page that is put together from the top down; every method returns the page.

    Parameters
    ----------
    title, subtitle
        Of the page.

    Examples
    --------
    >>> "<h1>Cells &amp; fates</h1>" in Page("Cells & fates").text("Two words.").html()
    True
    """

    def __init__(self, title: str, subtitle: str | None = None) -> None:
        self.title = title
        self.subtitle = subtitle
        self.blocks: list[str] = []

    def heading(self, text: str) -> Self:
        """Add a heading."""
        self.blocks.append(f"<h2>{html.escape(text)}</h2>")
        return self

    def text(self, text: str) -> Self:
        """Add a paragraph."""
        self.blocks.append(f"<p>{html.escape(text)}</p>")
        return self

    def code(self, text: str) -> Self:
        """Add program text."""
        self.blocks.append(f"<pre><code>{html.escape(text)}</code></pre>")
        return self

    def numbers(self, entries: Sequence[tuple[str, str, str]]) -> Self:
        """Add large numbers: ``(label, value, note)`` each."""
        cards = [
            f'<div class="card"><span>{html.escape(label)}</span><b>{html.escape(value)}</b>'
            f"<span>{html.escape(note)}</span></div>"
            for label, value, note in entries
        ]
        self.blocks.append(f'<div class="cards">{"".join(cards)}</div>')
        return self

    def table(self, frame: pd.DataFrame, caption: str | None = None, *, digits: int = 4) -> Self:
        """Add a table; numbers with the given significant digits, missing ones empty."""
        head = "".join(f"<th>{html.escape(str(c))}</th>" for c in frame.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(v, digits))}</td>" for v in row) + "</tr>"
            for row in frame.itertuples(index=False)
        )
        note = "" if caption is None else f"<figcaption>{html.escape(caption)}</figcaption>"
        self.blocks.append(
            f'<figure><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
            f"{note}</figure>"
        )
        return self

    def figure(self, picture: Figure | Axes, caption: str = "", *, dpi: int = 160) -> Self:
        """Add a picture, embedded as PNG."""
        figure = figure_of(picture) if isinstance(picture, Axes) else picture
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        width = round(figure.get_figwidth() * 96)
        self.blocks.append(
            f'<figure><img src="data:image/png;base64,{data}" width="{width}" '
            f'alt="{html.escape(caption or self.title)}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
        return self

    def details(self, summary: str, text: str) -> Self:
        """Add program text that opens on a click."""
        self.blocks.append(
            f"<details><summary>{html.escape(summary)}</summary><pre><code>{html.escape(text)}</code></pre></details>"
        )
        return self

    def html(self) -> str:
        """Return the page."""
        subtitle = "" if self.subtitle is None else f'<p class="sub">{html.escape(self.subtitle)}</p>'
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_CSS}</style></head><body><main>"
            f"<h1>{html.escape(self.title)}</h1>{subtitle}{''.join(self.blocks)}</main></body></html>\n"
        )

    def save(self, path: str | Path) -> None:
        """Write the page to a file, atomically."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")


def combine(pages: Sequence[Page], title: str, subtitle: str | None = None) -> Page:
    """Return one page of several, with a list of contents.

    Examples
    --------
    >>> page = combine([Page("One"), Page("Two")], "Both")
    >>> page.html().count("<h2")
    2
    """
    whole = Page(title, subtitle)
    entries = "".join(f'<li><a href="#part-{k}">{html.escape(page.title)}</a></li>' for k, page in enumerate(pages))
    whole.blocks.append(f"<nav><ul>{entries}</ul></nav>")
    for k, page in enumerate(pages):
        note = "" if page.subtitle is None else f'<p class="sub">{html.escape(page.subtitle)}</p>'
        whole.blocks.append(f'<h2 id="part-{k}">{html.escape(page.title)}</h2>{note}')
        whole.blocks += [block.replace("<h2>", "<h3>").replace("</h2>", "</h3>") for block in page.blocks]
    return whole


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
