"""The code of every page runs with exactly what the page tells to install."""

import collections
import importlib.util
import os
import re
import subprocess
import sys

import as_installed
import keras
import pytest
from as_installed import ROOT, backend_of, distributions_of, read, requirements_of

BACKEND = keras.backend.backend()


def groups():
    """Pages by backend and by all that is installed when one does as they say."""
    found = collections.defaultdict(list)
    for page in as_installed.pages():
        requirements = requirements_of(read(page))
        installed = frozenset(distributions_of(requirements))
        found[backend_of(requirements), installed].append(page)
    return [(backend, alike) for (backend, _), alike in found.items()]


GROUPS = groups()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "pages"), GROUPS, ids=[pages[0] for _, pages in GROUPS]
)
def test_pages_run_with_what_they_tell_to_install(backend, pages):
    if backend != BACKEND:
        pytest.skip(f"these pages tell to install {backend}")
    tests = [test for page in pages for test in as_installed.tests_of(page)]
    requirements = requirements_of(read(pages[0]))
    options = ["-rA", "--tb=short", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [
            sys.executable,
            "tests/as_installed.py",
            *requirements,
            "--",
            *options,
            *tests,
        ],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"^PASSED (\S+)", done.stdout, flags=re.MULTILINE)
    for test in tests:
        assert any(line.startswith(test) for line in passed), f"{test} did not run"
    assert "SKIPPED" not in done.stdout


@pytest.mark.parametrize("page", as_installed.pages())
def test_a_page_says_what_to_install_before_its_code(page):
    before, _, _ = read(page).partition("```python")
    assert backend_of(requirements_of(before)) is not None


@pytest.mark.skipif(
    not importlib.util.find_spec("jax"), reason="JAX tells what it needs, if installed"
)
def test_extras_bring_what_their_distributions_need():
    names = distributions_of(["keras-tcm[jax,viz]"])
    assert {"keras-tcm", "keras", "h5py", "jax", "jaxlib", "fonttools"} <= names
    assert names.isdisjoint({"scikit-learn", "tensorflow-cpu", "torch", "pandas"})
    demo = distributions_of(["keras-tcm[demo]"])
    assert "matplotlib" in demo
    # The one or the other, by the system.
    assert not demo.isdisjoint({"tensorflow", "tensorflow-cpu"})


def test_what_is_not_installed_cannot_be_found():
    script = """
import importlib.metadata as metadata, importlib.util, sys
sys.path.insert(0, "tests")
import as_installed
as_installed.hide_all_but(as_installed.distributions_of(["numpy"]))
import numpy
assert metadata.version("numpy") == numpy.__version__
assert importlib.util.find_spec("keras") is None
assert "keras" not in {found.name for found in metadata.distributions()}
for missing, call in (
    (ModuleNotFoundError, lambda: __import__("pytest")),
    (metadata.PackageNotFoundError, lambda: metadata.version("pytest")),
):
    try:
        call()
    except missing:
        continue
    raise AssertionError(missing)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


def test_words_that_say_what_to_install():
    start = requirements_of(read("docs/index.md"))
    assert start == {"keras-tcm[jax,viz]"}
    text = """Install as on the [start page](index.md#install), and `pip install scipy`
        pip install -e ".[hub]"    # or ".[viz]"
        %pip install -q "keras-tcm[pml] @ git+https://host/name" regex
    """
    assert requirements_of(text) == start | {
        "scipy",
        "keras-tcm[hub]",
        "keras-tcm[pml] @ git+https://host/name",
        "regex",
    }
    assert backend_of({"keras-tcm[torch,viz]", "scipy"}) == "torch"
    assert backend_of({"keras-tcm[viz]"}) is None
