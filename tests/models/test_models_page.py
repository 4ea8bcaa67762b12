"""What docs/models.md says works."""

import pathlib
import re

import keras
import numpy as np
import pytest

from keras_tcm.models import backbone

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
PRESET = '"vit_base_patch16_224_imagenet"'

# Building ResNet-50 and training the text encoder take a few seconds.
pytestmark = pytest.mark.slow


def run(code, names=None):
    names = {} if names is None else names
    exec(compile(code, "docs/models.md", "exec"), names)
    return names


@pytest.fixture
def imported():
    """What the first block imports for the rest of the page."""
    return run("import keras\nimport keras_tcm\n")


def is_preset(code):
    return PRESET in code


def is_text(code):
    return "evaluate_embeddings" in code


@pytest.mark.parametrize(
    "code",
    [code for code in BLOCKS if not is_preset(code) and not is_text(code)],
    ids=lambda code: code.strip().splitlines()[-1],
)
def test_models_of_images(code, imported):
    # Tests download nothing.
    model = run(code.replace('weights="imagenet"', "weights=None"), imported)["model"]
    assert model.output_names == ["embedding"]


def test_blocks_are_found():
    assert len(BLOCKS) == 7
    assert sum(map(is_text, BLOCKS)) == 1
    assert sum(map(is_preset, BLOCKS)) == 1


def test_preset(imported, tmp_path):
    hub = pytest.importorskip("keras_hub")
    # A preset of the same image size, small, on disk instead of downloaded.
    vit = hub.models.ViTBackbone((224, 224, 3), 56, 1, 2, 8, 16)
    vit.save_to_preset(str(tmp_path))
    hub.layers.ViTImageConverter(scale=1 / 127.5, offset=-1.0).save_to_preset(
        str(tmp_path)
    )
    (code,) = filter(is_preset, BLOCKS)
    model = run(code.replace(PRESET, repr(str(tmp_path))), imported)["model"]
    assert model.output_shape == (None, 128)


def test_text_encoder_learns_names_that_it_did_not_see():
    (code,) = filter(is_text, BLOCKS)
    keras.utils.set_random_seed(0)
    names = run(code)
    assert set(names["labels"][names["train"]]).isdisjoint(
        names["labels"][names["test"]]
    )
    untrained = keras.models.clone_model(names["model"])
    before = names["keras_tcm"].evaluate_embeddings(
        untrained.predict(names["tokens"][names["test"]], verbose=0),
        names["labels"][names["test"]],
    )
    assert names["result"].map_at_r > before.map_at_r
    assert names["result"].recall[1] > 0.8


def parameters(name, **kwargs):
    return backbone(name, (32, 32, 3), **kwargs).count_params() / 1e6


@pytest.mark.parametrize("name", ["resnet_small", "vit_small", "vit_tiny", "resnet50"])
def test_numbers_of_parameters(name):
    (row,) = re.findall(rf'^\| `"{name}"` .*\| ([\d.]+) M \|$', PAGE, flags=re.M)
    np.testing.assert_allclose(parameters(name), float(row), atol=0.05)


def test_links_to_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    files = [link for link in links if not link.startswith("http")]
    assert files
    assert [link for link in files if not (ROOT / "docs" / link).exists()] == []
