"""What the README says works."""

import pathlib
import re
import warnings

import numpy as np
import pytest

from keras_tcm import OPIS, cli

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    smaller = {
        'load("glyphs")': 'load("digits")',
        "classes_per_batch=32": "classes_per_batch=4",
        "epochs=16": "epochs=1",
        # Five classes bear no less.
        "far=0.01": "far=0.9",
    }
    # An epoch is what the metrics remember: they have nothing to warn of.
    sizes = re.findall(r"(?:per_batch|per_class|per_epoch)=(\d+)", code)
    assert np.prod([int(size) for size in sizes]) == OPIS().memory_size
    for original, replacement in smaller.items():
        assert code.count(original) == 1
        code = code.replace(original, replacement)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exec(compile(code, "README.md", "exec"), names)
    assert names["threshold"].far <= 0.9
    assert (tmp_path / "threshold.json").exists()


def test_commands_run(tmp_path, monkeypatch):
    commands = re.findall(
        r"^keras-tcm ((?:evaluate|threshold|check) .*)$", README, flags=re.MULTILINE
    )
    assert [command.split()[0] for command in commands] == [
        "evaluate",
        "threshold",
        "check",
    ]
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 10)
    embeddings = rng.normal(size=(20, 8))[labels] + rng.normal(size=(200, 8))
    np.savez(tmp_path / "embeddings.npz", embeddings=embeddings, labels=labels)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert cli.run(command.split()) == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))


def test_links_to_files_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    files = [link for link in links if not link.startswith("http")]
    assert files
    assert [link for link in files if not (ROOT / link).exists()] == []
