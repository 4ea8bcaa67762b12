"""Reports: written once, as Markdown, and shown as a page and in the terminal.

What is better or worse is marked in the Markdown, by spans that pages and terminals
colour and that a file of Markdown does without: see `without_tones`.
"""

import base64
import html
import pathlib
import re
from collections.abc import Iterable, Sequence
from importlib import resources

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from rich.table import Table
from rich.text import Text

_TERMINAL_STYLES = {"better": "green", "worse": "red"}
_SPAN = re.compile(r'<span class="(\w+)">|</span>')
_READER = MarkdownIt("commonmark", {"html": True}).enable("table")


# ----------------------------------------------------------------------------- writing


class Markdown(str):
    """Text that is Markdown; any other is escaped where it becomes a part of some."""

    __slots__ = ()


def plain(text: str) -> Markdown:
    """Escape what Markdown, or the HTML in it, would take for markup.

    Args:
        text: Any text, which becomes one line; `Markdown` is returned as it is.
    """
    if isinstance(text, Markdown):
        return text
    text = html.escape(" ".join(text.split()), quote=False)
    return Markdown(re.sub(r"[\\`|*~$]|(?<!\w)_|_(?!\w)|\](?=[(\[])", r"\\\g<0>", text))


def toned(text: str, tone: str) -> Markdown:
    """Mark text as `"better"` or `"worse"`, or as neither with an empty tone."""
    if not tone:
        return plain(text)
    return Markdown(f'<span class="{tone}">{plain(text)}</span>')


def lines(*texts: str) -> Markdown:
    """Write lines for a cell of a table."""
    return Markdown("<br>".join(map(plain, texts)))


def heading(text: str, level: int = 2) -> Markdown:
    """Write a heading."""
    return Markdown(f"{'#' * level} {plain(text)}\n")


def paragraph(text: str) -> Markdown:
    """Write a paragraph."""
    return Markdown(f"{_inside_a_line(text)}\n")


def bullets(items: Iterable[str]) -> Markdown:
    """Write a list."""
    return Markdown("".join(f"- {_inside_a_line(item)}\n" for item in items))


def _inside_a_line(text: str) -> str:
    """Escape what would begin another kind of block."""
    return re.sub(r"^(\d+(?=[.)](?:\s|$))|(?=[-+#=\[]))", r"\1\\", plain(text))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markdown:
    """Write a table, whose first column says what a row is about.

    Args:
        header: Names of the columns.
        rows: Cells of each row.
    """
    rules = [Markdown("---"), *[Markdown("---:")] * (len(header) - 1)]
    return Markdown(
        "".join(
            f"| {' | '.join(map(plain, row))} |\n" for row in (header, rules, *rows)
        )
    )


def figure(link: str, description: str) -> Markdown:
    """Write a figure.

    Args:
        link: Path of a PNG file from where the Markdown will lie.
        description: What it shows.
    """
    return Markdown(f"![{plain(description)}]({link})\n")


def document(blocks: Iterable[Markdown]) -> Markdown:
    """Write headings, paragraphs, lists, tables and figures below each other."""
    return Markdown("\n".join(blocks))


def without_tones(text: Markdown) -> str:
    """Markdown for readers who would see the marks of what is better or worse."""
    return _SPAN.sub("", text)


# ---------------------------------------------------------------------------- rendering


def to_html(title: str, text: Markdown, folder: pathlib.Path) -> str:
    """Make a page that needs no other file.

    Args:
        title: Title of the page.
        text: What it says.
        folder: Where the figures are linked from, which become part of the page.
    """
    tokens = _READER.parse(text)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                content = (folder / str(child.attrs["src"])).read_bytes()
                encoded = base64.b64encode(content).decode("ascii")
                child.attrs["src"] = f"data:image/png;base64,{encoded}"
    body = _READER.renderer.render(tokens, _READER.options, {})
    # Wide tables scroll. A text that contained these words has been escaped.
    body = body.replace("<table>", "<div><table>").replace("</table>", "</table></div>")
    style = resources.files(__package__).joinpath("document.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style>\n"
        f"</head>\n<body>\n{body}</body>\n</html>\n"
    )


def show(text: Markdown) -> None:
    """Print headings, paragraphs and tables to the terminal."""
    console = Console()
    header: list[tuple[Text, bool]] = []
    rows: list[list[Text]] = []
    opening = None
    for token in _READER.parse(text):
        if token.type == "inline":
            assert opening is not None
            content = _to_terminal(token, console.encoding)
            if opening.tag == "th":
                header.append((content, "style" in opening.attrs))
            elif opening.tag == "td":
                rows[-1].append(content)
            else:
                is_heading = opening.type == "heading_open"
                console.print(content, style="bold" if is_heading else None)
        elif token.type == "tr_open" and header:
            rows.append([])
        elif token.type == "table_close":
            console.print(_terminal_table(header, rows))
            header, rows = [], []
        opening = token


def _to_terminal(token: Token, encoding: str) -> Text:
    text, style = Text(), ""
    for child in token.children or ():
        span = _SPAN.fullmatch(child.content)
        if child.type == "html_inline" and span:
            style = _TERMINAL_STYLES.get(span[1] or "", "")
        elif child.type == "html_inline":
            text.append("\n")
        else:
            # Where the terminal or a file lacks a character: not a failure.
            shown = child.content.encode(encoding, errors="replace")
            text.append(shown.decode(encoding), style)
    return text


def _terminal_table(
    header: Sequence[tuple[Text, bool]], rows: Sequence[Sequence[Text]]
) -> Table:
    table = Table(show_lines=any("\n" in row[-1].plain for row in rows))
    for name, is_number in header:
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*row)
    return table
