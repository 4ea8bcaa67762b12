"""The documentation builds without warnings, and its links lead somewhere."""

import functools
import html.parser
import http.server
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("mkdocs"), reason="mkdocs is not installed"
    ),
]


class Page(html.parser.HTMLParser):
    """Where a page links to, what it loads, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors.update(
            value for name, value in attrs if name in ("id", "name") and value
        )
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in ("img", "script", "iframe", "source"):
            self.loaded.append(attributes.get("src"))
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(attributes.get("href"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {path: Page(path) for path in sorted(folder.rglob("*.html"))}


def test_links_lead_to_pages_and_anchors(site):
    broken = []
    checked = 0
    for path, page in site.items():
        # The page for addresses that do not exist is served from anywhere.
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
                if target.is_dir():
                    target = target / "index.html"
            anchor = urllib.parse.unquote(parts.fragment)
            checked += 1
            if not target.exists() or (
                anchor and target in site and anchor not in site[target].anchors
            ):
                broken.append((path.parent.name, link))
    assert checked > 500
    assert broken == []


def test_pages_load_nothing_from_other_hosts(site):
    loaded = [address for page in site.values() for address in page.loaded if address]
    assert loaded
    assert [a for a in loaded if urllib.parse.urlsplit(a).netloc] == []


def test_the_reference_shows_docstrings(site):
    (path,) = (p for p in site if p.parts[-3:] == ("reference", "losses", "index.html"))
    assert "keras_tcm.losses.TCM" in site[path].anchors
    text = path.read_text("utf-8")
    assert "Threshold-consistent margin" in text
    assert "positive_margin" in text


def test_the_reference_shows_functions_not_the_modules_they_hide(site):
    objects = {anchor for page in site.values() for anchor in page.anchors}
    assert "keras_tcm.evaluation.evaluate_embeddings.evaluate_embeddings" in objects
    assert "keras_tcm.evaluation.evaluate_embeddings" not in objects
    assert "keras_tcm.evaluation.compare_embeddings.compare_embeddings" in objects
    shown = [
        path.parent.name
        for path in site
        if "doc-object doc-module" in path.read_text("utf-8")
    ]
    assert shown == []


def test_links_to_the_repository_lead_to_its_files(site):
    (repository,) = re.findall(
        r"^repo_url: (\S+)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE
    )
    owner_and_name = urllib.parse.urlsplit(repository).path.strip("/")
    linked, missing = set(), []
    for page in site.values():
        for link in page.links:
            match = re.fullmatch(
                r"https://(?:github\.com|colab\.research\.google\.com/github)"
                r"/([^/]+/[^/]+)/blob/main/([^#]+)(?:#.*)?",
                link,
            )
            if match and (match[1] == owner_and_name or "colab" in link):
                linked.add(match[2])
                if match[1] != owner_and_name or not (ROOT / match[2]).is_file():
                    missing.append(link)
    assert {"notebooks/01_quickstart.ipynb", "benchmarks/distributed_jax.py"} <= linked
    assert missing == []


@pytest.fixture(scope="module")
def address(site):
    folder = next(path for path in site if path.name == "404.html").parent
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Nobody reads it."""


def visit(browser, address, names):
    """Addresses on other hosts that pages ask for, and errors of their scripts."""
    elsewhere, errors = [], []

    def answer(route):
        if route.request.url.startswith(address):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    with browser.new_context() as context:
        context.set_default_timeout(120_000)
        context.route(re.compile("^https?:"), answer)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in names:
            page.goto(address + name)
            # The script marks the page when it runs, and finds the results of the
            # search when all of its parts are at work.
            page.wait_for_selector("html.js", state="attached")
            page.click("input.md-search__input")
            page.keyboard.type("threshold")
            page.wait_for_selector(".md-search-result__item")
    return elsewhere, errors


def test_scripts_of_the_pages_ask_no_other_host(browser, address):
    """What the addresses in the HTML do not tell: scripts fetch, styles import."""
    names = ("", "concepts/", "reference/losses/")
    assert visit(browser, address, names) == ([], [])


def test_a_page_that_asks_another_host_is_noticed(browser, address, site):
    """The check above can fail: the start page, with a script that fetches."""
    folder = next(path for path in site if path.name == "404.html").parent
    text = (folder / "index.html").read_text("utf-8")
    script = "<script>fetch('https://elsewhere.invalid/stars')</script></body>"
    (folder / "asks.html").write_text(text.replace("</body>", script), "utf-8")
    elsewhere, _ = visit(browser, address, ["asks.html"])
    assert elsewhere == ["https://elsewhere.invalid/stars"]
