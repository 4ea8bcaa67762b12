"""What is uploaded, and the files that tell about it."""

import functools
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import numpy as np
import pytest

import keras_tcm

ROOT = pathlib.Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
VERSION = keras_tcm.__version__
REPOSITORY = PROJECT["urls"]["Repository"]
NAME = f"keras_tcm-{VERSION}"


def text_of(path):
    return (ROOT / path).read_text("utf-8")


def files():
    """What the source distribution has."""
    patterns = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for pattern in ("/pyproject.toml", *patterns):
        path = ROOT / pattern.removeprefix("/")
        assert path.exists(), f"there is no {path}"
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file


# ------------------------------------------------------------------- what files say

_ADDRESS = re.compile(r"github(?:\.com)?/(keras[-_]tcm/[\w-]+|[\w-]+/keras[-_]tcm)\b")


def test_address_is_that_of_pyproject_and_stands_where_it_must():
    found = {}
    for path in files():
        if path.suffix in (".png", ".npz"):
            continue
        for owner_and_name in _ADDRESS.findall(path.read_text("utf-8")):
            name = path.relative_to(ROOT).as_posix()
            found.setdefault(f"https://github.com/{owner_and_name}", set()).add(name)
    places = {
        "CITATION.cff",
        "docs/notebooks.md",  # Colab takes no relative link.
        "guides/one_threshold_for_all_classes.py",  # To be shown elsewhere.
        "mkdocs.yml",
        "pyproject.toml",
        # A notebook is read far from the repository.
        *(f"notebooks/{path.name}" for path in ROOT.glob("notebooks/*.ipynb")),
    }
    assert found == {REPOSITORY: places}
    assert all(url.startswith(REPOSITORY) for url in PROJECT["urls"].values())
    assert re.findall(r"^repo_url: (.+)$", text_of("mkdocs.yml"), re.MULTILINE) == [
        REPOSITORY
    ]


def test_citation_has_the_version():
    assert f"\nversion: {VERSION}\n" in text_of("CITATION.cff")


WORKFLOWS = [f".github/workflows/{name}.yml" for name in ("docs", "publish", "tests")]


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("github-workflows", WORKFLOWS),
        (
            "github-issue-forms",
            [f".github/ISSUE_TEMPLATE/{name}.yml" for name in ("bug", "results")],
        ),
        ("github-issue-config", [".github/ISSUE_TEMPLATE/config.yml"]),
        ("citation-file-format", ["CITATION.cff"]),
    ],
)
def test_files_for_the_site_of_the_repository_follow_their_schema(schema, names):
    if not importlib.util.find_spec("check_jsonschema"):
        pytest.skip("check-jsonschema is not installed")
    options = ["--builtin-schema", f"vendor.{schema}", "--default-filetype", "yaml"]
    call(sys.executable, "-m", "check_jsonschema", *options, *names, cwd=ROOT)


def test_workflows_try_what_is_supported():
    workflow = text_of(".github/workflows/tests.yml")
    listed = {
        name: re.findall(r'[^", ]+', values)
        for name, values in re.findall(r"^ {8}(\w+): \[(.+)\]$", workflow, re.MULTILINE)
    }
    versions = [line.rpartition(" ")[2] for line in PROJECT["classifiers"]]
    assert listed["python"] == [v for v in versions if re.fullmatch(r"3\.\d+", v)]
    assert PROJECT["requires-python"] == ">=" + listed["python"][0]
    (oldest,) = re.findall(r"keras>=([\d.]+)", " ".join(PROJECT["dependencies"]))
    assert listed["keras"] == [f"=={oldest}.*", f">={oldest}"]
    assert set(listed["backend"]) == {"jax", "tensorflow", "torch"}
    # The page for people says the same.
    page = text_of("docs/support.md")
    assert f"| Python | {listed['python'][0]} to {listed['python'][-1]} |" in page
    assert f"| Keras | {oldest} and later | {oldest}, and the newest |" in page
    for name in "TensorFlow", "JAX", "PyTorch":
        extra = name.lower().removeprefix("py")
        (requirement,) = PROJECT["optional-dependencies"][extra]
        assert f"{name} {requirement.removeprefix(f'{extra}>=')}" in page


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_may_do_no_more_than_they_need(name):
    workflow = text_of(name)
    assert re.search(r"^permissions:\n  contents: read\n", workflow, re.MULTILINE)
    granted = re.findall(r"^ +([\w-]+: write)$", workflow, re.MULTILINE)
    expected = {
        "docs": ["pages: write", "id-token: write"],
        "publish": ["id-token: write"],
        "tests": [],
    }
    assert granted == expected[pathlib.Path(name).stem]
    for action in re.findall(r"uses: (\S+)", workflow):
        assert re.search(r"@(release/)?v\d+$|@[0-9a-f]{40}$|^\./", action)


def test_no_module_unpickles_or_runs_what_it_reads():
    """What SECURITY.md promises of files."""
    running = re.compile(
        r"allow_pickle=True|\bpickle\.loads?\(|(?<![\w.])(?:eval|exec)\(|torch\.load\("
    )
    found = [
        f"{path.name}: {line}"
        for path in (ROOT / "keras_tcm").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if running.search(line)
    ]
    assert found == []


# ------------------------------------------------------------------ what is uploaded


def call(*command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=900, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel, which is made from the source distribution, and that."""
    for module in "build", "hatch_fancy_pypi_readme", "hatchling", "twine":
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("dist")
    # With the tools that are installed, for want of a network.
    options = ["--no-isolation", "--outdir", folder]
    call(sys.executable, "-m", "build", *options, ROOT, cwd=folder)
    wheel, source = folder / f"{NAME}-py3-none-any.whl", folder / f"{NAME}.tar.gz"
    assert set(folder.iterdir()) == {wheel, source}
    return wheel, source


@pytest.mark.slow
def test_index_would_take_them(distributions):
    call(sys.executable, "-m", "twine", "check", "--strict", *distributions)


@pytest.mark.slow
def test_wheel_has_the_package_and_nothing_else(distributions):
    wheel, _ = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "keras_tcm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {
        "keras_tcm/py.typed",
        "keras_tcm/datasets/digits.npz",
        "keras_tcm/report/page.html",
    } <= package
    others = {name for name in names if not name.startswith(f"{NAME}.dist-info/")}
    assert others == package | {"keras_tcm_command.py"}
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    assert wheel.stat().st_size < 1_000_000

    assert f"\nVersion: {VERSION}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    # The page of the index, where there is no folder for links to lead to.
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 30
    assert [link for link in links if not link.startswith("https://")] == []
    assert f"{REPOSITORY}/raw/v{VERSION}/docs/images/utility.png" in links
    assert f"{REPOSITORY}/blob/v{VERSION}/docs/losses.md" in links
    assert 'pip install "keras-tcm[jax,viz]"' in metadata


@pytest.mark.slow
def test_source_distribution_has_what_changing_the_package_takes(distributions):
    _, source = distributions
    with tarfile.open(source) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in files()
        # Not all of these are kept in the repository.
        if path.parent.name != "results" and path.name != "study.html"
    }
    assert expected <= names
    rest = {name for name in names - expected if "benchmarks/results" not in name}
    assert rest == {".gitignore", "LICENSE", "PKG-INFO"}
    assert source.stat().st_size < 8_000_000


# ------------------------------------------------------------- the wheel, installed


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """The programs of an environment with the wheel.

    The environment finds everything else where these tests do, but not this package.
    """
    folder = tmp_path_factory.mktemp("installed") / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    call(*pip, "install", "--no-deps", "--no-index", distributions[0])
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    return folder / "bin"


def environment():
    """Variables of a process that does not know of this folder."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "COLUMNS": "200"}


@pytest.mark.slow
def test_command_of_the_wheel(installed, tmp_path):
    run = functools.partial(call, cwd=tmp_path, env=environment())
    imported = run(
        installed / "python", "-c", "import keras_tcm as k; print(k.__file__)"
    )
    assert pathlib.Path(imported.strip()).is_relative_to(installed.parent)
    command = installed / "keras-tcm"
    assert run(command, "--version") == f"keras-tcm {VERSION}\n"
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 10)
    embeddings = rng.normal(size=(20, 8))[labels] + rng.normal(size=(200, 8))
    np.savez(tmp_path / "embeddings.npz", embeddings=embeddings, labels=labels)
    assert "OPIS" in run(command, "evaluate", "embeddings.npz", "--out", "report")
    assert "<html" in (tmp_path / "report" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_readme_runs_with_the_wheel_and_what_it_needs(installed):
    """As if nothing were installed but the wheel with two extras, and pytest."""
    program = [installed / "python", "tests/as_installed.py", "keras-tcm[torch,viz]"]
    options = ["-rA", "-p", "no:cacheprovider"]
    names = "the_example_runs", "commands_run"
    tests = [f"tests/test_readme.py::test_{name}" for name in names]
    done = call(*program, "--", *options, *tests, cwd=ROOT, env=environment())
    for test in tests:
        assert f"PASSED {test}" in done
