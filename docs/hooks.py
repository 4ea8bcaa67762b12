"""Links of the pages to files outside of docs/, in the built site.

On GitHub, `../notebooks/a.ipynb` leads to the file. The site has no such file, so there
the link leads to the repository.
"""

import posixpath
import re
from typing import Any


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Make relative links that leave docs/ links to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        if not target.startswith("../"):
            return match[0]
        path = target.removeprefix("../")
        return f"]({config.repo_url.rstrip('/')}/blob/main/{path})"

    return re.sub(r"\]\((\.\./[^)\s]+)\)", replace, markdown)
