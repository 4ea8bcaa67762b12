"""The code on the pages of the documentation runs, and the pages are complete."""

import importlib
import pathlib
import re
import shlex
import sys

import as_installed
import keras
import numpy as np
import pytest

from keras_tcm import cli

DOCS = pathlib.Path(__file__).parents[2] / "docs"
# The others have tests of their own, with the files and the peers that they need.
PAGES = [
    pathlib.Path(page).stem
    for page in as_installed.pages()
    if page not in as_installed.TESTS
]


def run_commands(page, monkeypatch):
    """Run the commands of a page that do not train."""
    text = as_installed.read(f"docs/{page}.md")
    for command in re.findall(
        r"^keras-tcm (?:evaluate|compare|threshold|check) .*$", text, re.M
    ):
        monkeypatch.setattr(sys, "argv", shlex.split(command, comments=True))
        # A threshold may be checked on classes for which it is broken.
        assert cli.main() in (0, 3), command


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pyplot = pytest.importorskip("matplotlib.pyplot")
    names = {}
    blocks = as_installed.code_blocks(f"docs/{page}.md")
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}.md, block {number}", "exec"), names)
    run_commands(page, monkeypatch)
    pyplot.close("all")
    result = names.get("result")
    if result is not None:
        assert 0 < result.opis < 1
    if page == "losses":
        x = np.random.default_rng(0).normal(size=(16, 6))
        y = np.arange(16) % 4
        history = names["trainer"].fit(x, y, batch_size=8, epochs=1, verbose=0)
        assert 0 < history.history["loss"][0] < np.inf
    if page == "index":
        assert 0 < names["threshold"] < 2
        assert len(names["history"].history["val_opis"]) == 2
        x_test = names["x_test"][:5]
        np.testing.assert_allclose(
            names["loaded"].predict(x_test), names["model"].predict(x_test), atol=1e-6
        )
        assert (tmp_path / "report" / "report.html").exists()
    for name in re.findall(r'"([\w.]+\.(?:html|json|keras|png|npz))"', "".join(blocks)):
        assert (tmp_path / name).stat().st_size > 500, name
    keras.utils.clear_session()


def test_pages_are_found():
    expected = {"index", "evaluation", "figures", "choosing_a_threshold", "losses"}
    assert expected <= set(PAGES)


# Public names of the subpackages: what their `__init__` imports.
PACKAGES = (
    "callbacks",
    "data",
    "distribution",
    "evaluation",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "reference",
    "relevance",
    "threshold",
    "visualization",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_lists_every_public_name(package):
    module = importlib.import_module(f"keras_tcm.{package}")
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "").startswith("keras_tcm.")
    }
    page = (DOCS / "reference" / f"{package}.md").read_text("utf-8")
    listed = re.findall(
        rf"^::: keras_tcm\.{package}\.(?:\w+\.)?(\w+)$", page, re.MULTILINE
    )
    assert sorted(listed) == sorted(public)
