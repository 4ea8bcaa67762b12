"""A report as Markdown, as a page of HTML, and in the terminal."""

import base64
import dataclasses
import html
import pathlib
import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

# Green and red that are legible on white, and in most terminals.
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0; overflow-wrap: normal; }
th, td { border-bottom: 1px solid #8886; padding: .35rem .8rem; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; }
th.label, td.label { text-align: left; }
th { border-bottom: 2px solid #888; }
.better { color: #0a7a33; }
.worse { color: #c0262d; }
img { max-width: 100%; height: auto; }
div { overflow-x: auto; }
@media (max-width: 40rem) {
  table { font-size: 13px; }
  th, td { padding: .3rem .4rem; }
}
@media screen and (prefers-color-scheme: dark) {
  body { color: #e6e9ed; background: #14181c; }
  .better { color: #4cc38a; }
  .worse { color: #ff8f8f; }
  img { background: #fff; }
}
"""
_TERMINAL_STYLES = {"": "", "better": "green", "worse": "red"}


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a cell of a table.

    Attributes:
        text: What it says.
        tone: `"better"`, `"worse"` or nothing.
    """

    text: str
    tone: str = ""


Cell = str | tuple[Line, ...]


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 or 3."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list of plain texts."""

    items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: Names of the columns.
        rows: Cells of each row.
        num_labels: The first columns, which say what the row is about.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    num_labels: int = 1


@dataclasses.dataclass(frozen=True)
class Figure:
    """A PNG file.

    Attributes:
        path: Where it is.
        description: What it shows.
    """

    path: pathlib.Path
    description: str


Block = Heading | Paragraph | Bullets | Table | Figure


def to_markdown(blocks: Sequence[Block], folder: pathlib.Path) -> str:
    """Write blocks in Markdown.

    Args:
        blocks: What to say.
        folder: Where the text will lie: figures, in it or below, are linked from there.
    """
    return "\n".join(_markdown(block, folder) for block in blocks)


def _markdown(block: Block, folder: pathlib.Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_plain(block.text)}\n"
    if isinstance(block, Paragraph):
        return f"{_plain(block.text)}\n"
    if isinstance(block, Bullets):
        return "".join(f"- {_plain(item)}\n" for item in block.items)
    if isinstance(block, Figure):
        link = block.path.relative_to(folder).as_posix()
        return f"![{_plain(block.description)}]({link})\n"
    rules = [
        "---" if i < block.num_labels else "---:" for i in range(len(block.header))
    ]
    rows = [
        [_plain(name) for name in block.header],
        rules,
        *(
            ["<br>".join(_plain(line.text) for line in _lines(cell)) for cell in row]
            for row in block.rows
        ),
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _plain(text: str) -> str:
    """Escape what Markdown, or the HTML in it, would take for markup."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\\`|*~$]|(?<!\w)_|_(?!\w)|\](?=[(\[])", r"\\\g<0>", text)


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as a page that needs no other file.

    Args:
        title: Title of the page.
        blocks: What it says.

    Returns:
        The page; figures are part of it.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n"
        "</head>\n<body>\n" + "".join(map(_html, blocks)) + "</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>\n"
    if isinstance(block, Paragraph):
        return f"<p>{html.escape(block.text)}</p>\n"
    if isinstance(block, Bullets):
        items = "".join(f"<li>{html.escape(item)}</li>\n" for item in block.items)
        return f"<ul>\n{items}</ul>\n"
    if isinstance(block, Figure):
        content = base64.b64encode(block.path.read_bytes()).decode("ascii")
        description = html.escape(block.description)
        return (
            f'<p><img src="data:image/png;base64,{content}" alt="{description}"></p>\n'
        )
    header = [(Line(name),) for name in block.header]
    rows = [_html_row(header, "th", block.num_labels)]
    rows += [_html_row(row, "td", block.num_labels) for row in block.rows]
    return "<div><table>\n" + "".join(rows) + "</table></div>\n"


def _html_row(cells: Sequence[Cell], tag: str, num_labels: int) -> str:
    written = []
    for number, cell in enumerate(cells):
        kind = ' class="label"' if number < num_labels else ""
        lines = "<br>".join(map(_html_line, _lines(cell)))
        written.append(f"<{tag}{kind}>{lines}</{tag}>")
    return "<tr>" + "".join(written) + "</tr>\n"


def _html_line(line: Line) -> str:
    text = html.escape(line.text)
    return f'<span class="{line.tone}">{text}</span>' if line.tone else text


def print_block(block: Block) -> None:
    """Print a block, but not a figure, to the terminal."""
    console = Console()

    def shown(text: str, style: str = "") -> Text:
        # Where the terminal or a file lacks a character: not a failure.
        encoded = text.encode(console.encoding, errors="replace")
        return Text(encoded.decode(console.encoding), style)

    if isinstance(block, Heading | Paragraph):
        console.print(shown(block.text, "bold" if isinstance(block, Heading) else ""))
    elif isinstance(block, Bullets):
        for item in block.items:
            console.print(shown(f"- {item}"))
    elif isinstance(block, Table):
        table = TerminalTable(
            show_lines=any(len(_lines(row[-1])) > 1 for row in block.rows)
        )
        for number, name in enumerate(block.header):
            is_label = number < block.num_labels
            table.add_column(shown(name), justify="left" if is_label else "right")
        for row in block.rows:
            table.add_row(
                *(
                    Text("\n").join(
                        shown(line.text, _TERMINAL_STYLES[line.tone])
                        for line in _lines(cell)
                    )
                    for cell in row
                )
            )
        console.print(table)


def _lines(cell: Cell) -> tuple[Line, ...]:
    return (Line(cell),) if isinstance(cell, str) else cell
