"""Runs tests as if nothing but what a page tells to install were installed.

`python tests/as_installed.py REQUIREMENT ... -- ARGUMENT ...` calls pytest with these
arguments. The requirements are those of `pip`, such as `keras-tcm[jax,viz]`. Modules
and distributions that neither these nor pytest bring cannot be found.
"""

import functools
import importlib.machinery
import importlib.metadata
import os
import pathlib
import re
import shlex
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
BACKENDS = ("jax", "tensorflow", "torch")
# The development environment has one for the other: see `dev` and the Makefile.
STAND_INS = {"tensorflow": "tensorflow-cpu", "tensorflow-text": "tensorflow-cpu"}
# Set where tests run as installed.
FLAG = "KERAS_TCM_AS_INSTALLED"

# Which tests run the code of a page; for the others docs/test_pages.py does.
TESTS = {
    "README.md": [
        "tests/test_readme.py::test_the_example_runs",
        "tests/test_readme.py::test_commands_run",
        # In place of all glyphs, which take a while: their fonts are there.
        "tests/datasets/test_glyphs.py::test_fill_agrees_with_matplotlib",
    ],
    "docs/coming_from_pytorch_metric_learning.md": [
        "tests/interop/test_guides.py::test_guide_for_pytorch_metric_learning"
    ],
    "docs/coming_from_tensorflow_similarity.md": [
        "tests/interop/test_guides.py::test_guide_for_tensorflow_similarity"
    ],
    "docs/datasets.md": ["tests/datasets/test_datasets_page.py::test_the_code_runs"],
    "docs/distributed.md": [
        "tests/distribution/test_distributed_page.py::test_the_code_runs"
    ],
    "docs/models.md": [
        f"tests/models/test_models_page.py::test_{name}"
        for name in (
            "models_of_images",
            "preset",
            "text_encoder_learns_names_that_it_did_not_see",
        )
    ],
    "docs/relevance.md": ["tests/test_relevance_objects.py::test_the_page_runs"],
    "docs/samplers.md": ["tests/data/test_samplers_page.py::test_the_code_runs"],
    "docs/vector_databases.md": [
        "tests/threshold/test_vector_databases.py::test_the_page_runs"
    ],
}


def read(page):
    """The text of a page, by its path in the repository."""
    return (ROOT / page).read_text("utf-8")


def code_blocks(page):
    """The Python code of a page."""
    return re.findall(r"```python\n(.*?)```", read(page), flags=re.DOTALL)


def pages():
    """The pages with Python code."""
    paths = ["README.md", *(f"docs/{path.name}" for path in ROOT.glob("docs/*.md"))]
    return sorted(filter(code_blocks, paths))


def tests_of(page):
    """The tests, as pytest names them, that run the code of a page."""
    stem = pathlib.Path(page).stem
    return TESTS.get(page, [f"tests/docs/test_pages.py::test_the_code_runs[{stem}]"])


def requirements_of(text):
    """What a page tells to install, in its own words or by a link to the start page."""
    found = set()
    if "](index.md#install)" in text:
        found |= requirements_of(read("docs/index.md"))
    for command in re.findall(r"pip install\s+([^`\n]+)", text):
        for word in shlex.split(command, comments=True):
            if not word.startswith("-"):
                found.add(re.sub(r"^\.(?=\[)", "keras-tcm", word))
    return found


def backend_of(requirements):
    """The backend that is told to install: the first, where there are several."""
    extras = set().union(*(Requirement(text).extras for text in requirements))
    return next((name for name in BACKENDS if name in extras), None)


def tests_on(backend):
    """The tests of the pages that tell to install a backend."""
    for page in pages():
        if backend_of(requirements_of(read(page))) == backend:
            yield from tests_of(page)


@functools.cache
def needs_of(name):
    """What the metadata of a distribution say that it needs."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return [STAND_INS[name]] if name in STAND_INS else []


def distributions_of(requirements):
    """Names of everything that `pip install` of requirements brings.

    Those of this package are read from pyproject.toml: metadata are as old as the
    installation.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = project["optional-dependencies"]
    queue, done = [Requirement(text) for text in requirements], set()
    names = set()
    while queue:
        requirement = queue.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras
        if (name, *sorted(extras)) in done:
            continue
        done.add((name, *sorted(extras)))
        if name == project["name"]:
            wanted = [*project["dependencies"]]
            wanted += [text for extra in sorted(extras) for text in optional[extra]]
        else:
            wanted = needs_of(name)
        names.add(name)
        for needed in map(Requirement, wanted):
            marker = needed.marker
            if marker is None or any(
                marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                queue.append(needed)
    return names


def hide_all_but(names):
    """Hide the modules and the metadata of all other distributions."""
    hidden = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if names.isdisjoint(map(canonicalize_name, owners))
    }

    class Finder(importlib.machinery.PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name in hidden else super().find_spec(name, path, target)

        @classmethod
        def find_distributions(cls, *args, **kwargs):
            for found in super().find_distributions(*args, **kwargs):
                if canonicalize_name(found.name) in names:
                    yield found

    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
    for name in list(sys.modules):
        if name.partition(".")[0] in hidden:
            del sys.modules[name]


def main(arguments):
    split = arguments.index("--")
    requirements = arguments[:split]
    hide_all_but(distributions_of([*requirements, "hypothesis", "pytest"]))
    os.environ[FLAG] = "1"
    os.environ["KERAS_BACKEND"] = backend_of(requirements)
    # Plugins of others are hidden.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest

    return pytest.main(arguments[split + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
