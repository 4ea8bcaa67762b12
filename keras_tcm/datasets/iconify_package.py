"""Drawings in a package of Iconify, in which collections of icons come by npm.

Only its JSON files are read. See https://iconify.design/docs/types/iconify-json.html.
"""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

# Of an icon or an alias, or else of the whole collection.
_VIEW_BOX = {"left": 0, "top": 0, "width": 16, "height": 16}
_TRANSFORMATIONS = frozenset({"rotate", "hFlip", "vFlip"})
# References to anything but a part of the same drawing: other files, or the network.
_FOREIGN = re.compile(
    r"""<image\b|href\s*=\s*["'](?!\s*#)|@import|url\(["']?(?!["']?#)"""
)


@dataclasses.dataclass(frozen=True)
class IconifyPackage:
    """A folder `@iconify-json/name` in `node_modules`.

    Attributes:
        folder: Where it is.
    """

    folder: Path

    @functools.cached_property
    def version(self) -> str:
        """The version of the package."""
        return self._read("package.json", "version", str)["version"]

    @functools.cached_property
    def icons(self) -> dict[str, dict[str, Any]]:
        """The icons by name, but for those that are hidden or turned."""
        return {
            name: icon
            for name, icon in self._collection["icons"].items()
            if not (icon.get("hidden") or _TRANSFORMATIONS & icon.keys())
        }

    @functools.cached_property
    def characters(self) -> dict[str, str]:
        """The name of the icon of each character, which is in hexadecimal digits."""
        return self._read("chars.json", None, dict)

    @functools.cached_property
    def categories(self) -> dict[str, list[str]]:
        """The names of the icons of each category."""
        return self._read("metadata.json", "categories", dict)["categories"]

    @functools.cached_property
    def _aliases(self) -> dict[str, dict[str, Any]]:
        return self._collection.get("aliases", {})

    @functools.cached_property
    def _collection(self) -> dict[str, Any]:
        collection = self._read("icons.json", "icons", dict)
        for entries in (collection["icons"], collection.get("aliases", {})):
            for name, entry in entries.items():
                if not isinstance(entry, dict):
                    raise ValueError(
                        f"{self.folder / 'icons.json'} must have a dict of each icon "
                        f"and alias. Received: {str(entry)[:60]!r} of {name!r}"
                    )
        return collection

    def find(self, name: str) -> str | None:
        """Returns the name of an icon, given that or an alias; `None` if there is none.

        Args:
            name: Such as `"grinning-face"`.
        """
        for _ in range(len(self._aliases) + 1):  # An alias may be that of another.
            if name in self.icons:
                return name
            alias = self._aliases.get(name, {})
            if "parent" not in alias or _TRANSFORMATIONS & alias.keys():
                break
            name = alias["parent"]
        return None

    def svg(self, name: str, size: int) -> str:
        """Returns an icon as an SVG document.

        Args:
            name: A key of `icons`.
            size: Its width and height in pixels.

        Raises:
            ValueError: If the drawing is damaged, or refers to something outside it.
        """
        icon = self.icons[name]
        body = icon.get("body")
        if not isinstance(body, str) or _FOREIGN.search(body):
            raise ValueError(
                f"{self.folder / 'icons.json'} must have a drawing of {name!r} that "
                f"refers to no file. Received: {str(body)[:60]!r}"
            )
        box = " ".join(
            str(icon.get(key, self._collection.get(key, default)))
            for key, default in _VIEW_BOX.items()
        )
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{size}" height="{size}" viewBox="{box}">{body}</svg>'
        )

    def _read(
        self, file_name: str, field: str | None, kind: type[dict] | type[str]
    ) -> Any:
        """Reads a file, and checks that it, or a field of it, is of a kind."""
        file = self.folder / file_name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} must be JSON. Received: {error}") from error
        value = content
        if field is not None:
            value = content.get(field) if isinstance(content, dict) else None
        if not isinstance(value, kind):
            raise ValueError(
                f"{file} must have a {kind.__name__} {field or 'of names'!r}. "
                f"Received: {str(content)[:60]}"
            )
        return content
