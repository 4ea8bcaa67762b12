"""The code on the pages of the documentation runs, and the pages are complete."""

import ast
import importlib
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_tcm

DOCS = pathlib.Path(__file__).parents[2] / "docs"
# These have tests of their own, with the files and the peers that they need.
TESTED_ELSEWHERE = {
    "coming_from_pytorch_metric_learning",
    "coming_from_tensorflow_similarity",
    "datasets",
    "models",
    "relevance",
    "samplers",
}
# Needs several devices or processes. The scripts that the page names, and the tests of
# the distribution, run the same calls.
NOT_RUN = {"distributed"}


def code_blocks(path):
    return re.findall(r"```python\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


PAGES = {
    path.stem: path
    for path in sorted(DOCS.glob("*.md"))
    if code_blocks(path) and path.stem not in TESTED_ELSEWHERE | NOT_RUN
}


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """With the embeddings that the first page starts from."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 30)
    embeddings = rng.normal(size=(20, 8))[labels] + 0.5 * rng.normal(size=(600, 8))
    np.savez(tmp_path / "embeddings.npz", embeddings=embeddings, labels=labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_before(page):
    """What the code of a page takes for granted."""
    if page != "losses":
        return {}
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    return {"keras_tcm": keras_tcm, "model": model}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_runs(page, empty_folder, monkeypatch):
    if page in ("figures", "index"):
        pytest.importorskip("sklearn")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    names = names_before(page)
    for number, block in enumerate(code_blocks(PAGES[page])):
        exec(compile(block, f"{page}.md, block {number}", "exec"), names)
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
    for name in re.findall(
        r'"([\w.]+\.(?:html|json|png|npz))"', "".join(code_blocks(PAGES[page]))
    ):
        assert (empty_folder / name).stat().st_size > 500, name
    keras.utils.clear_session()


def test_pages_are_found():
    expected = {"index", "evaluation", "figures", "choosing_a_threshold", "losses"}
    assert expected <= set(PAGES)


@pytest.mark.parametrize("page", sorted(NOT_RUN))
def test_code_that_is_not_run_is_python(page):
    for block in code_blocks(DOCS / f"{page}.md"):
        ast.parse(block)


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
    "relevance",
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
