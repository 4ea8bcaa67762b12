"""The notebooks: what is in the repository, and that they run."""

import json
import pathlib
import re
import tomllib

import as_installed
import keras
import nbformat
import numpy as np
import pytest
from execute import FOLDER, run
from PIL import Image

NAMES = (
    "01_quickstart",
    "02_resnet_retrieval",
    "03_vit_retrieval",
    "04_choosing_a_threshold",
    "05_coming_from_tensorflow_similarity",
    "06_toy_embeddings",
    "07_text_to_image",
)
PROJECT = tomllib.loads(as_installed.read("pyproject.toml"))["project"]
MAIN = f"{PROJECT['urls']['Repository']}/blob/main"
# For each notebook, a fact about the variables that it leaves behind.
FACTS = {
    "01_quickstart": (
        "point.far <= 0.01 and threshold == point.threshold"
        " and loaded_result.opis == result.opis and abs(before - after) < 1e-5"
    ),
    "02_resnet_retrieval": (
        "len(results) == 4 and all(0 < x.opis < 1 for x in results.values())"
        " and all(x.history['tcm_weight'][0] > 0 for x in histories.values())"
    ),
    "03_vit_retrieval": (
        "len(results) == 4 and all(0 < x.opis < 1 for x in results.values())"
        " and all(x.history['tcm_weight'][0] > 0 for x in histories.values())"
    ),
    "04_choosing_a_threshold": (
        "threshold.far < FAR_TARGET and check.verdict != 'broken'"
        " and loaded.value == threshold.value == point.threshold"
        " and evened.opis < result.opis and normalized.far < FAR_TARGET"
        " and os.path.getsize('report.html') > 10_000"
    ),
    "05_coming_from_tensorflow_similarity": (
        "point.far <= 0.01 and abs(theirs - ours) < 1e-5 and len(neighbors) > 0"
    ),
    "06_toy_embeddings": (
        "np.allclose(np.linalg.norm(embeddings['ArcFace + TCM'], axis=1), 1, atol=1e-5)"
        " and all(abs(gaps(x).sum() - 360) < 1e-3 for x in embeddings.values())"
    ),
    "07_text_to_image": (
        "result.num_unanswerable == np.isin(test_labels, test_classes[2::3]).sum()"
        " and check.num_unanswerable == result.num_unanswerable"
        " and matcher.ids == catalogue.tolist() and [len(x) for x in found] == [min(4,"
        " threshold.accepts(x, test_images[catalogue]).sum()) for x in queries]"
    ),
}

with_every_notebook = pytest.mark.parametrize("name", NAMES)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def requirements_of(notebook):
    """What a notebook installs where it finds none of it, and its kernel."""
    found = as_installed.requirements_of(code_cells(notebook)[0].source)
    assert found
    return [*found, "ipykernel"]


def test_names_are_all():
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb"))) == NAMES


# ------------------------------------------------------------ what is in the repository


@with_every_notebook
def test_is_valid_and_small(name):
    path = FOLDER / f"{name}.ipynb"
    nbformat.validate(json.loads(path.read_text(encoding="utf-8")))
    assert path.stat().st_size < 1.5e6


@with_every_notebook
def test_badge_opens_this_notebook(name):
    colab = MAIN.replace("github.com/", "colab.research.google.com/github/")
    url = f"{colab}/notebooks/{name}.ipynb"
    assert f"({url})" in read(name).cells[0].source


@with_every_notebook
def test_outputs_are_those_of_one_run(name):
    cells = code_cells(read(name))
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert any("image/png" in output.get("data", {}) for output in outputs)


@with_every_notebook
def test_tells_nothing_of_a_machine(name):
    notebook = read(name)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    for cell in code_cells(notebook):
        assert not cell.metadata
        for output in cell.outputs:
            texts = [output.get("text", "")]
            texts += [
                content
                for kind, content in output.get("data", {}).items()
                if not kind.startswith("image/")
            ]
            for text in texts:
                assert not re.search(r"/(home|work|root|tmp|Users)/", text)
                # Nor an address in memory, which differs in every run.
                assert not re.search(r"0x[0-9a-f]{6,}", text)


@with_every_notebook
def test_links_lead_into_the_repository(name):
    text = "\n".join(cell.source for cell in read(name).cells)
    links = re.findall(re.escape(MAIN) + r"/([\w./]+)", text)
    assert links
    root = pathlib.Path(FOLDER).parent
    assert [link for link in links if not (root / link).exists()] == []


@with_every_notebook
def test_the_page_tells_to_install_what_a_notebook_does(name):
    page = as_installed.requirements_of(as_installed.read("docs/notebooks.md"))
    missing = as_installed.distributions_of(
        requirements_of(read(name))
    ) - as_installed.distributions_of(page)
    assert missing == set()


# ------------------------------------------------------------------------ that they run

# Before the first cell: nothing is installed but what the notebook installs, and the
# backend, which Colab has.
AS_INSTALLED = """
import sys
sys.path.insert(0, {folder!r})
import as_installed
as_installed.hide_all_but(as_installed.distributions_of({requirements!r}))
"""


@pytest.mark.slow
@with_every_notebook
def test_runs(name, tmp_path, monkeypatch):
    backend = keras.backend.backend()
    if name == "05_coming_from_tensorflow_similarity" and backend != "tensorflow":
        pytest.skip("its subject runs on TensorFlow alone")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setenv("KERAS_TCM_NOTEBOOKS", "small")
    notebook = read(name)
    requirements = [*requirements_of(notebook), f"keras-tcm[{backend}]"]
    setting = AS_INSTALLED.format(
        folder=str(as_installed.ROOT / "tests"), requirements=requirements
    )
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setting))
    fact = nbformat.v4.new_code_cell(f"keras_tcm.__name__, bool({FACTS[name]})")
    notebook.cells.append(fact)
    run(notebook, tmp_path)
    (output,) = fact.outputs
    assert output.data["text/plain"] == "('keras_tcm', True)"


# In place of what the settings say of CUB-200: files of the same form, few and small,
# no weights from the network, and of each network a part (tests/models have the whole).
FEW_BIRDS = """
import importlib

DATA_DIR, IMAGE_SIZE, WEIGHTS = "birds", (32, 32), weights
STEPS, CLASSES_PER_BATCH, NUM_HELD_OUT_CLASSES, EMBEDDING_DIM = 4, 3, 3, 8
JIT_COMPILE = False
keras_tcm.datasets.load = lambda name, data_dir: getattr(
    keras_tcm.datasets, name).load(data_dir, check_counts=False)

def stem(input_tensor, weights, **options):
    network = build(input_tensor=input_tensor, weights=weights, **options)
    return keras.Model(network.input, network.get_layer("pool1_pool").output)

build, keras.applications.ResNet50 = keras.applications.ResNet50, stem
vit_base = importlib.import_module("keras_tcm.models.vit_base")
vit_base._BASE = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 12}
"""


@pytest.fixture
def birds(tmp_path):
    """The folder of a data set that has the form of CUB-200."""
    folder = tmp_path / "birds" / "CUB_200_2011"
    rng = np.random.default_rng(0)
    names, labels, classes = [], [], []
    for label in (*range(1, 7), *range(101, 105)):
        classes.append(f"{label} {label:03}.Bird")
        (folder / "images" / f"{label:03}.Bird").mkdir(parents=True)
        for number in range(8):
            name = f"{label:03}.Bird/{number}.jpg"
            pixels = rng.integers(256, size=(24, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name)
            names.append(f"{len(names) + 1} {name}")
            labels.append(f"{len(names)} {label}")
    for file, lines in [
        ("images.txt", names),
        ("image_class_labels.txt", labels),
        ("classes.txt", classes),
    ]:
        (folder / file).write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02_resnet_retrieval", "03_vit_retrieval"])
def test_real_data_setting_runs(name, birds, tmp_path, monkeypatch):
    if name == "03_vit_retrieval":
        pytest.importorskip("keras_hub")
        weights = None
    else:
        weights = str(tmp_path / "resnet50.weights.h5")
        resnet = keras.applications.ResNet50(weights=None, include_top=False)
        resnet.save_weights(weights)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    monkeypatch.setenv("KERAS_TCM_NOTEBOOKS", "gpu")
    notebook = read(name)
    (settings,) = (
        index
        for index, cell in enumerate(notebook.cells)
        if cell.source.startswith("SETTING =")
    )
    fewer = nbformat.v4.new_code_cell(f"weights = {weights!r}{FEW_BIRDS}")
    notebook.cells.insert(settings + 1, fewer)
    fact = nbformat.v4.new_code_cell("DATASET, BACKBONE, len(x_test), len(results)")
    notebook.cells.append(fact)
    run(notebook, tmp_path)
    backbone = {"02_resnet_retrieval": "resnet50", "03_vit_retrieval": "vit_base"}[name]
    (output,) = fact.outputs
    assert output.data["text/plain"] == f"('cub200', '{backbone}', 32, 4)"
