"""Packages as npm installs them, for the tests of the data sets that read them."""

import json

SQUARE = '<path fill="{}" d="M{} 2h{}v12H2z"/>'


def drawing(number, colour="currentColor"):
    """The body of an icon, another one for every number up to some hundred."""
    return SQUARE.format(colour, 2 + number % 10, 1 + number // 10)


def write_json(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def write_package(node_modules, name, version, bodies, aliases=(), **files):
    """Writes a package with icons of 16 x 16; `files` are others, such as `chars`."""
    folder = node_modules / "@iconify-json" / name
    write_json(
        folder / "package.json", {"name": f"@iconify-json/{name}", "version": version}
    )
    icons = {
        icon: body if isinstance(body, dict) else {"body": body}
        for icon, body in bodies.items()
    }
    collection = {"prefix": name, "icons": icons, "aliases": dict(aliases)}
    write_json(folder / "icons.json", {**collection, "width": 16, "height": 16})
    for file, content in files.items():
        write_json(folder / f"{file}.json", content)
    return folder
