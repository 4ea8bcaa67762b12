"""The rule by which import and command choose a backend, in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import keras_tcm

ROOT = pathlib.Path(keras_tcm.__file__).parents[1]
BACKENDS = ("tensorflow", "torch", "jax")
# Runs at the start of Python and hides what the test says is not installed.
_HIDE = """
import os, sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split(","):
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""
# In place of Keras, which takes seconds to import. Like it, it imports its backend.
_KERAS = """
import importlib, os
__version__ = {version!r}
backend = os.environ.get("KERAS_BACKEND") or {default!r}
importlib.import_module(backend)
"""
# The rule alone, without the rest of the package.
_RULE = f"""
import json, os, sys, types
package = sys.modules["keras_tcm"] = types.ModuleType("keras_tcm")
package.__path__ = [{str(ROOT / "keras_tcm")!r}]
from keras_tcm import _backend
_backend.import_keras()
import keras
print(json.dumps([keras.backend, os.environ.get("KERAS_BACKEND")]))
"""


class World:
    """A home, what is installed, and the processes that run there."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "home"
        self.modules = folder / "modules"
        self.home.mkdir()
        self.modules.mkdir()
        (self.modules / "sitecustomize.py").write_text(_HIDE)

    def add_module(self, name, code=""):
        (self.modules / name).mkdir()
        (self.modules / name / "__init__.py").write_text(code)

    def add_keras(self, version="3.12.0", default="tensorflow"):
        self.add_module("keras", _KERAS.format(version=version, default=default))

    def name_in_keras_json(self, backend, folder=".keras"):
        (self.home / folder).mkdir(exist_ok=True)
        content = json.dumps({"floatx": "float32", "backend": backend})
        (self.home / folder / "keras.json").write_text(content)

    def python(self, *arguments, installed=BACKENDS, hidden=(), **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KERAS")}
        return subprocess.run(
            [sys.executable, *arguments],
            env={
                **kept,
                "HOME": str(self.home),
                "HIDDEN": ",".join({*BACKENDS, *hidden} - {*installed}),
                "PYTHONPATH": f"{self.modules}{os.pathsep}{ROOT}",
                **environment,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def choose(self, installed, **environment):
        """What is chosen, what `KERAS_BACKEND` is then, and what is said."""
        done = self.python("-c", _RULE, installed=installed, **environment)
        assert done.returncode == 0, done.stderr
        return *json.loads(done.stdout), done.stderr


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def small_world(world):
    """Where Keras and its backends are empty modules."""
    world.add_keras()
    for name in BACKENDS:
        world.add_module(name)
    return world


def check_refused(done, *mentioned):
    """The program ended in one sentence, and not in the depths of Keras."""
    assert done.returncode == 1
    *trace, sentence = done.stderr.strip().splitlines()
    assert sentence.startswith("ImportError: ")
    assert len(trace) < 12
    for text in mentioned:
        assert text in sentence
    return sentence.removeprefix("ImportError: ")


# --------------------------------------------------------------------- what is chosen


@pytest.mark.parametrize("backend", BACKENDS)
def test_named_backend_is_used(small_world, backend):
    chosen = small_world.choose(BACKENDS, KERAS_BACKEND=backend)
    assert chosen == (backend, backend, "")


@pytest.mark.parametrize("named", [None, ""])
def test_tensorflow_is_left_to_keras_where_none_is_named(small_world, named):
    environment = {} if named is None else {"KERAS_BACKEND": named}
    assert small_world.choose(BACKENDS, **environment) == ("tensorflow", named, "")


@pytest.mark.parametrize(
    ("installed", "expected"), [(("jax", "torch"), "torch"), (("jax",), "jax")]
)
# Keras writes this of its own accord.
@pytest.mark.parametrize("written", [None, "tensorflow"])
def test_another_is_taken_where_keras_would_fail(
    small_world, installed, expected, written
):
    if written:
        small_world.name_in_keras_json(written)
    backend, variable, said = small_world.choose(installed)
    assert backend == variable == expected
    assert f"UserWarning: Keras runs on {expected}" in said
    assert f"KERAS_BACKEND={expected}" in said


@pytest.mark.parametrize("in_keras_home", [False, True])
def test_backend_of_keras_json_is_left_to_keras(world, in_keras_home):
    # Keras itself reads the file.
    world.add_keras(default="torch")
    world.add_module("torch")
    environment = {}
    if in_keras_home:
        world.name_in_keras_json("jax")
        world.name_in_keras_json("torch", folder="elsewhere")
        environment["KERAS_HOME"] = str(world.home / "elsewhere")
    else:
        world.name_in_keras_json("torch")
    assert world.choose(("torch",), **environment) == ("torch", None, "")


def test_environment_goes_before_keras_json(small_world):
    small_world.name_in_keras_json("torch")
    chosen = small_world.choose(BACKENDS, KERAS_BACKEND="jax")
    assert chosen == ("jax", "jax", "")


@pytest.mark.parametrize("content", ["", "no JSON", "[]", "3", "{}", "\x00\xff"])
def test_keras_json_that_names_nothing(small_world, content):
    (small_world.home / ".keras").mkdir()
    path = small_world.home / ".keras" / "keras.json"
    path.write_text(content, encoding="latin-1")
    assert small_world.choose(("jax",))[0] == "jax"


def test_what_an_uninstalled_package_leaves_behind_does_not_count(world):
    world.add_keras()
    world.add_module("jax")
    for name in "tensorflow", "torch":
        (world.modules / name).mkdir()
    # Without what is installed here.
    forget = "import numpy, sys; sys.path = [p for p in sys.path if 'site-' not in p]"
    done = world.python("-c", forget + _RULE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["jax", "jax"]


# -------------------------------------------------------------------- what is refused

_PROGRAM = ("-c", "import keras_tcm")


@pytest.mark.parametrize(
    ("installed", "named", "mentioned"),
    [
        ((), None, ["No backend", "keras-tcm[tensorflow]", "[torch]", "[jax]"]),
        ((), "jax", ["KERAS_BACKEND=jax", "not installed", "keras-tcm[jax]"]),
        (
            ("torch", "jax"),
            "tensorflow",
            ["Installed: torch, jax.", "KERAS_BACKEND=torch", "keras-tcm[tensorflow]"],
        ),
        (("jax",), "numpy", ["KERAS_BACKEND=numpy", "tensorflow, torch, jax only"]),
        (("jax",), "openvino", ["KERAS_BACKEND=openvino", "KERAS_BACKEND=jax"]),
        (BACKENDS, "JAX", ["KERAS_BACKEND=JAX", "Installed: tensorflow, torch, jax"]),
        ((), "trch", ["KERAS_BACKEND=trch", "pip install"]),
    ],
)
def test_one_sentence_from_import_and_command(world, installed, named, mentioned):
    for name in installed:
        world.add_module(name)
    environment = {} if named is None else {"KERAS_BACKEND": named}
    done = world.python(*_PROGRAM, installed=installed, **environment)
    sentence = check_refused(done, *mentioned)
    command = ("-m", "keras_tcm_command", "evaluate", "a.npz", "--out", "out")
    done = world.python(*command, installed=installed, **environment)
    assert done.returncode == 2
    assert done.stderr == f"keras-tcm: error: {sentence}\n"
    assert done.stdout == ""


@pytest.mark.parametrize("named", ["jax", "numpy", ""])
def test_keras_json_that_names_what_cannot_be_used(world, named):
    world.name_in_keras_json(named)
    done = world.python(*_PROGRAM, installed=("torch",))
    check_refused(done, "keras.json", json.dumps(named), "KERAS_BACKEND=torch")


def test_without_keras(world):
    done = world.python(*_PROGRAM, hidden=("keras",))
    check_refused(done, "Keras is not installed", "keras>=3.12")


@pytest.mark.parametrize("version", ["3.11.3", "2.15.0"])
def test_keras_that_is_too_old(small_world, version):
    (small_world.modules / "keras" / "__init__.py").write_text(
        _KERAS.format(version=version, default="tensorflow")
    )
    check_refused(small_world.python("-c", _RULE), version, "keras>=3.12")


def test_cause_of_a_broken_backend_is_told(small_world):
    cause = "libcudnn.so.9: cannot open shared object file"
    (small_world.modules / "jax" / "__init__.py").write_text(
        f"raise OSError({cause!r})"
    )
    done = small_world.python("-c", _RULE, KERAS_BACKEND="jax")
    assert done.returncode == 1
    assert "The above exception was the direct cause" in done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("ImportError: Keras")
    assert f"on the backend jax: OSError: {cause}" in sentence


# ------------------------------------------------------------------ with Keras itself


@pytest.mark.slow
def test_import_where_only_jax_is_installed(world):
    program = world.folder / "program.py"
    program.write_text(
        "import keras_tcm\nimport keras\nprint(keras.backend.backend())\n"
    )
    done = world.python(str(program), installed=("jax",))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "jax\n"
    # The warning points at the import.
    assert f"{program}:1: UserWarning: Keras runs on jax" in done.stderr
    assert "backend.py" not in done.stderr


@pytest.mark.slow
def test_keras_that_was_imported_on_another_backend(world):
    program = "import keras; import keras_tcm"
    done = world.python("-c", program, KERAS_BACKEND="numpy")
    check_refused(done, "Keras is on numpy", "start Python anew")


@pytest.mark.slow
def test_backend_of_keras_json(world):
    world.name_in_keras_json("torch")
    program = "import keras_tcm, keras; print(keras.backend.backend())"
    done = world.python("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "torch\n"
    assert "UserWarning" not in done.stderr


@pytest.mark.slow
def test_command_says_which_backend_it_takes(world):
    command = ("-m", "keras_tcm_command", "evaluate", "none.npz", "--out", "out")
    done = world.python(*command, installed=("torch",))
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith("keras-tcm: warning: Keras runs on torch")
    assert second.startswith("keras-tcm: error: ")
    assert "none.npz" in second
