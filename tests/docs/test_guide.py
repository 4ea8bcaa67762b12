"""The guide in the manner of keras.io runs, and has its form."""

import ast
import io
import pathlib
import re
import tokenize

import keras
import numpy as np
import pytest

GUIDE = (
    pathlib.Path(__file__).parents[2] / "guides" / "one_threshold_for_all_classes.py"
)
SOURCE = GUIDE.read_text("utf-8")
# A smaller setting.
SMALL = {
    "EPOCHS = 8": "EPOCHS = 1",
    "STEPS_PER_EPOCH = 60": "STEPS_PER_EPOCH = 4",
    "FAR_TARGET = 0.01": "FAR_TARGET = 0.1",
    'load("glyphs")\n': 'load("codes")\nx_test, y_test = x_test[::8], y_test[::8]\n',
}


def texts():
    """What stands in strings of their own, which keras.io shows as text."""
    return [
        node.value.value
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]


def test_header():
    fields = dict(line.split(": ", 1) for line in texts()[0].strip().splitlines())
    assert list(fields) == [
        *("Title", "Author", "Date created", "Last modified", "Description"),
        "Accelerator",
    ]
    assert re.fullmatch(r"20\d\d/\d\d/\d\d", fields["Last modified"])
    assert fields["Accelerator"] in ("None", "GPU", "TPU")


def test_form():
    headings = re.findall("^## (.*)$", "".join(texts()), re.M)
    assert headings[0] == "Introduction"
    assert headings[-1] == "References"
    tokens = tokenize.generate_tokens(io.StringIO(SOURCE).readline)
    lines = {
        token.start[0]
        for token in tokens
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER)
    }
    assert len(lines) <= 150
    long = [line for line in SOURCE.splitlines() if len(line) > 88]
    assert [line.partition(":")[0] for line in long] == ["Description"]


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())
    source = SOURCE
    for usual, small in SMALL.items():
        assert source.count(usual) == 1
        source = source.replace(usual, small)
    names = {}
    exec(compile(source, GUIDE.name, "exec"), names)
    assert (
        set(names["results"]) == set(names["checks"]) == {"MultiSimilarity", "with TCM"}
    )
    for name, result in names["results"].items():
        assert 0 < result.opis < 1
        assert names["thresholds"][name].far < 0.1
        assert names["checks"][name].far < 0.2
    assert names["threshold"].value == names["thresholds"]["with TCM"].value
    np.testing.assert_allclose(np.linalg.norm(names["pairs"], axis=1), 1, atol=1e-5)
