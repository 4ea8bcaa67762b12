"""What docs/samplers.md shows works."""

import pathlib
import re

import keras
import numpy as np
import pytest
from sampler_helpers import fork_is_fine

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "samplers.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def folder_of_images(tmp_path, monkeypatch):
    """What the page reads: images/<label>/<name>.png."""
    rng = np.random.default_rng(0)
    for label in "abcde":
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(4):
            image = rng.integers(0, 256, (9, 8, 3)).astype("uint8")
            keras.utils.save_img(folder / f"{number}.png", image, scale=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@fork_is_fine
@pytest.mark.usefixtures("folder_of_images")
def test_the_code_runs():
    pytest.importorskip("tensorflow")
    pytest.importorskip("torch")
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) >= 8
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"samplers.md, block {number}", "exec"), names)
        if "sampler" in names:
            x_batch, y_batch = names["sampler"][0]
            assert len(x_batch) == len(y_batch)
            counts = np.unique(y_batch, return_counts=True)[1]
            assert set(counts) == {4}
    assert names["loader"].batch_sampler
    assert len(names["y_batch"]) == 32


def test_anchors_exist():
    headings = re.findall(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
