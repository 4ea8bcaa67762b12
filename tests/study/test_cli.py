"""The command line: what it writes, and what it says about mistakes."""

import importlib.util
import json
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from study_runs import measures, pair, write_runs

import keras_tcm_command
from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.study import cli, commands, runner
from keras_tcm.study.grid import TCMSetting

REPOSITORY = pathlib.Path(keras_tcm_command.__file__).parent


def samples(num_classes=12, per_class=8, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    x = rng.normal(size=(num_classes, 6))[y] + 0.7 * rng.normal(size=(len(y), 6))
    return x.astype("float32"), y


X, Y = samples()
GALLERY_X, GALLERY_Y = samples(seed=0, per_class=10)


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def run(*arguments):
    """Exit code of the command, whether returned or raised by argparse."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def check_image(path):
    """A PNG that shows something."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        counts = np.array([n for n, _ in image.convert("RGB").getcolors(2**24)])
    assert len(counts) > 20
    assert counts.max() < 0.98 * counts.sum()


def read_table(path):
    """Cells of a Markdown table by the first cell of the row."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        assert line.startswith("| ")
        assert line.endswith(" |")
        first, *others = (cell.strip() for cell in line[2:-2].split(" | "))
        rows[first] = others
    return rows


def check_output(out, stem, expected):
    """The files agree with an evaluation."""
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [f"{stem}.json", "report.html", "table.md", "utility.png"]
    )
    saved = Evaluation.load(out / f"{stem}.json")
    assert saved.opis == pytest.approx(expected.opis, rel=1e-9)
    assert saved.epsilon_opis == pytest.approx(expected.epsilon_opis, rel=1e-9)
    assert saved.recall == pytest.approx(expected.recall)
    assert list(saved.classes) == list(expected.classes)
    np.testing.assert_allclose(saved.utility, expected.utility)
    table = read_table(out / "table.md")
    assert table["OPIS (lower is better)"] == [f"{expected.opis:.6f}"]
    assert table["R@1 (higher is better)"] == [f"{expected.recall[1]:.4f}"]
    assert table["mAP@R (higher is better)"] == [f"{expected.map_at_r:.4f}"]
    (point,) = (p for p in expected.operating_points if p.far_target == 0.01)
    assert table["threshold at FAR 1%"] == [f"{point.threshold:.4f}"]
    assert table["- FRR (lower is better)"] == [f"{point.frr:.2%}"]
    check_image(out / "utility.png")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"{expected.opis:.6f}" in page
    assert f"{point.threshold:.6f}" in page


# ---------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        (X, Y),
        (X.astype("float16"), Y.astype("uint8")),
        (X.astype("float64"), np.array([f"class {label}" for label in Y])),
        (X, Y[:, None].astype("float32")),
    ],
    ids=["float32", "float16", "string labels", "column of labels"],
)
def test_evaluate(tmp_path, capsys, embeddings, labels):
    file = write(tmp_path / "Run 1.npz", embeddings=embeddings, labels=labels)
    out = tmp_path / "new" / "folder"
    assert run("evaluate", file, "--out", out) == 0
    expected = evaluate_embeddings(embeddings, labels)
    check_output(out, "run_1", expected)
    printed = capsys.readouterr()
    assert f"{expected.opis:.6f}" in printed.out
    assert str(out) in printed.out.replace("\n", "")
    assert printed.err == ""


def test_evaluate_with_a_gallery(tmp_path):
    gallery = {"gallery_embeddings": GALLERY_X, "gallery_labels": GALLERY_Y}
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y, **gallery)
    out = tmp_path / "out"
    assert run("evaluate", file, "--out", out) == 0
    expected = evaluate_embeddings(X, Y, **gallery)
    assert expected.opis != pytest.approx(evaluate_embeddings(X, Y).opis, rel=1e-3)
    check_output(out, "a", expected)


def test_evaluate_with_options(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, embeddings=X, labels=Y, of_no_interest=np.zeros(3))
    out = tmp_path / "out"
    options = ["--far-range", "0.02", "0.3", "--distance", "euclidean"]
    options += ["--beta", "2", "--epsilon", "0.25"]
    assert run("evaluate", file, "--out", out, *options) == 0
    expected = evaluate_embeddings(
        X, Y, far_range=(0.02, 0.3), distance="euclidean", beta=2.0, epsilon=0.25
    )
    check_output(out, "a", expected)
    assert read_table(out / "table.md")["25%-OPIS (lower is better)"] == [
        f"{expected.epsilon_opis:.5f}"
    ]


def test_evaluate_into_an_existing_folder_replaces_its_files(tmp_path):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    out = tmp_path / "out"
    assert run("evaluate", file, "--out", out) == 0
    write(file, embeddings=GALLERY_X, labels=GALLERY_Y)
    assert run("evaluate", file, "--out", out) == 0
    check_output(out, "a", evaluate_embeddings(GALLERY_X, GALLERY_Y))


@pytest.mark.parametrize("name", ["a$_{b$", "[bold]é[-]"])
def test_evaluate_a_file_of_any_name(tmp_path, name):
    file = write(tmp_path / f"{name}.npz", embeddings=X, labels=Y)
    out = tmp_path / "out"
    assert run("evaluate", file, "--out", out) == 0
    check_image(out / "utility.png")
    (saved,) = out.glob("*.json")
    assert Evaluation.load(saved).opis == pytest.approx(evaluate_embeddings(X, Y).opis)


def test_unresolved_operating_point_is_told_and_saved(tmp_path, capsys):
    x, y = samples(4, 3)
    file = write(tmp_path / "a.npz", embeddings=x, labels=y)
    out = tmp_path / "out"
    options = ["--far-range", "0.1", "0.5"]
    assert run("evaluate", file, "--out", out, *options) == 0
    assert "not resolved" in capsys.readouterr().out
    saved = Evaluation.load(out / "a.json")
    assert [point.resolved for point in saved.operating_points] == [False, False, True]


# ---------------------------------------------------------------------------- mistakes


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def check_mistake(capsys, code, *mentioned):
    assert code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("keras-tcm: error: ")
    for text in mentioned:
        assert text in line


def test_missing_file(tmp_path, capsys):
    code = run("evaluate", tmp_path / "none.npz", "--out", tmp_path / "out")
    check_mistake(capsys, code, "none.npz", "No such file")


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 cut short", b"\x93NUMPY\x01\x00"]
)
def test_file_that_is_no_archive(tmp_path, capsys, content):
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    code = run("evaluate", file, "--out", tmp_path / "out")
    check_mistake(capsys, code, "a.npz")


def test_folder_in_place_of_the_file(tmp_path, capsys):
    code = run("evaluate", tmp_path, "--out", tmp_path / "out")
    check_mistake(capsys, code, str(tmp_path))


def test_single_array(tmp_path, capsys):
    file = tmp_path / "a.npy"
    np.save(file, X)
    code = run("evaluate", file, "--out", tmp_path / "out")
    check_mistake(capsys, code, "a.npy", "single array")


def test_damaged_archive(tmp_path, capsys):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, embeddings=X, labels=Y)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        start = archive.getinfo("embeddings.npy").header_offset
    # The local header: 30 bytes, of which the last four are two lengths; the name.
    start += 30 + sum(np.frombuffer(content[start + 26 : start + 30], "<u2"))
    for damage in bytes([255]) * 40, bytes(40):
        content[start : start + 40] = damage
        file.write_bytes(content)
        code = run("evaluate", file, "--out", tmp_path / "out")
        check_mistake(capsys, code, "a.npz")


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        b"",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': ('<f4'\n",
        b"\x93NUMPY\x01\x00\x04\x00[1]\n",
    ],
)
def test_archive_of_something_else(tmp_path, capsys, content):
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("embeddings.npy", content)
        archive.writestr("labels.npy", content)
    code = run("evaluate", file, "--out", tmp_path / "out")
    check_mistake(capsys, code, "a.npz")


def test_pickled_arrays_are_refused_unread(tmp_path, capsys):
    marker = tmp_path / "executed"
    bombs = np.empty(len(Y), dtype=object)
    bombs[:] = [Bomb(marker) for _ in Y]
    for arrays in (
        {"embeddings": X, "labels": bombs},
        {"embeddings": bombs, "labels": Y},
        {
            "embeddings": X,
            "labels": Y,
            "gallery_embeddings": X,
            "gallery_labels": bombs,
        },
    ):
        file = tmp_path / "a.npz"
        np.savez(file, allow_pickle=True, **arrays)
        code = run("evaluate", file, "--out", tmp_path / "out")
        check_mistake(capsys, code, "a.npz")
        assert not marker.exists()
    # The bomb is live.
    with np.load(file, allow_pickle=True) as archive, pytest.raises(FileExistsError):
        _ = archive["gallery_labels"], archive["gallery_labels"]
    assert marker.exists()


def test_pickle_is_refused_unread(tmp_path, capsys):
    marker = tmp_path / "executed"
    file = tmp_path / "a.npz"
    file.write_bytes(pickle.dumps(Bomb(marker)))
    code = run("evaluate", file, "--out", tmp_path / "out")
    check_mistake(capsys, code, "a.npz")
    assert not marker.exists()


def with_nan_row():
    x = X.copy()
    x[5] = np.nan
    return x


@pytest.mark.parametrize(
    ("arrays", "mentioned"),
    [
        ({"labels": Y}, ["`embeddings`", "labels"]),
        ({"embeddings": X}, ["`labels`"]),
        ({"vectors": X, "classes": Y}, ["`embeddings`", "vectors, classes"]),
        ({}, ["no arrays"]),
        ({"embeddings": X, "labels": Y[:-1]}, ["`labels`", "96", "95"]),
        ({"embeddings": with_nan_row(), "labels": Y}, ["`embeddings`", "index 5"]),
        ({"embeddings": X[:, 0], "labels": Y}, ["`embeddings`", "shape"]),
        ({"embeddings": X + 1j, "labels": Y}, ["`embeddings`", "complex"]),
        ({"embeddings": X, "labels": np.eye(12)[Y]}, ["`labels`", "shape"]),
        ({"embeddings": X, "labels": Y + 0.5}, ["`labels`", "whole numbers"]),
        ({"embeddings": X, "labels": np.zeros(96)}, ["`labels`", "two classes"]),
        ({"embeddings": np.ones_like(X), "labels": Y}, ["`far_range`", "collapsed"]),
        (
            {"embeddings": X, "labels": Y, "gallery_embeddings": X},
            ["`gallery_labels`"],
        ),
        (
            {"embeddings": X, "labels": Y, "gallery_labels": Y},
            ["`gallery_embeddings`"],
        ),
        (
            {
                "embeddings": X,
                "labels": Y,
                "gallery_embeddings": X[:, :3],
                "gallery_labels": Y,
            },
            ["`gallery_embeddings`", "dimension"],
        ),
    ],
)
def test_mistakes_in_the_arrays(tmp_path, capsys, arrays, mentioned):
    file = write(tmp_path / "a.npz", **arrays)
    code = run("evaluate", file, "--out", tmp_path / "out")
    check_mistake(capsys, code, "a.npz", *mentioned)


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        (["--far-range", "0.1", "0.01"], ["far_range", "0.1"]),
        (["--far-range", "0", "0.1"], ["far_range"]),
        (["--far-range", "0.00001", "0.1"], ["far_range", "resolv"]),
        (["--beta", "0"], ["beta"]),
        (["--epsilon", "1.5"], ["epsilon", "1.5"]),
    ],
)
def test_mistakes_in_the_options(tmp_path, capsys, options, mentioned):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    code = run("evaluate", file, "--out", tmp_path / "out", *options)
    check_mistake(capsys, code, *mentioned)


@pytest.mark.parametrize("below", ["", "folder"])
def test_file_in_the_way_of_the_output(tmp_path, capsys, below):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    (tmp_path / "taken").write_text("kept")
    code = run("evaluate", file, "--out", tmp_path / "taken" / below)
    check_mistake(capsys, code, "taken")
    assert (tmp_path / "taken").read_text() == "kept"


@pytest.mark.parametrize("name", ["a.json", "report.html", "table.md", "utility.png"])
def test_folder_in_the_way_of_an_output_file(tmp_path, capsys, name):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    (tmp_path / "out" / name).mkdir(parents=True)
    code = run("evaluate", file, "--out", tmp_path / "out")
    assert code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("keras-tcm: error: ")
    assert name in error


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        ([], "COMMAND"),
        (["predict"], "predict"),
        (["evaluate"], "FILE"),
        (["evaluate", "a.npz"], "--out"),
        (["evaluate", "a.npz", "--out", "out", "--far", "x", "y"], "--far"),
        (["evaluate", "a.npz", "--out", "out", "--sideways"], "--sideways"),
        (["evaluate", "a.npz", "--out", "out", "--distance", "l1"], "l1"),
        (["evaluate", "a.npz", "--out", "out", "--far-range", "0.1"], "--far-range"),
        (["compare", "a.npz", "--out", "out"], "B.npz"),
        (["compare", "a.npz", "b.npz"], "--out"),
        (["compare", "a.npz", "b.npz", "--out", "out", "--beta", "x"], "--beta"),
        (["report"], "DIR"),
        (["study", "--out", "out"], "--preset"),
        (["study", "--preset", "smoke"], "--out"),
        (["study", "--preset", "huge", "--out", "out"], "huge"),
        (["study", "--preset", "smoke", "--out", "out", "--seeds"], "--seeds"),
        (["demo", "--loss", "hinge"], "hinge"),
        (["demo", "--steps", "many"], "many"),
    ],
)
def test_arguments_that_are_not_understood(capsys, arguments, mentioned):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "error: " in error.splitlines()[-1]
    assert mentioned in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        (["--steps", "0"], "--steps"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_mistakes_in_the_options_of_the_demo(tmp_path, capsys, options, mentioned):
    out = tmp_path / "out"
    check_mistake(capsys, run("demo", "--out", out, *options), mentioned, options[1])
    assert not out.exists()


def test_file_in_the_way_of_the_demo(tmp_path, capsys):
    (tmp_path / "taken").write_text("kept")
    check_mistake(capsys, run("demo", "--out", tmp_path / "taken"), "taken")


def test_without_matplotlib(tmp_path, capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "matplotlib" else find_spec(name, *rest),
    )
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    code = run("evaluate", file, "--out", tmp_path / "out")
    check_mistake(capsys, code, "matplotlib", "keras-tcm[viz]")


COMMANDS = ("demo", "evaluate", "compare", "study", "report", "toy")


@pytest.mark.parametrize("arguments", [[], *([command] for command in COMMANDS)])
def test_help(capsys, arguments):
    assert run(*arguments, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: keras-tcm")
    for command in () if arguments else COMMANDS:
        assert command in text
    assert "==SUPPRESS==" not in text


# ----------------------------------------------------------------------------- compare


def write_two(tmp_path, **changes):
    """Archives of two models, the second of a smaller dimension."""
    return [
        write(tmp_path / "a.npz", embeddings=X, labels=Y),
        write(tmp_path / "b.npz", **{"embeddings": X[:, :4], "labels": Y, **changes}),
    ]


def test_compare(tmp_path, capsys):
    files = write_two(tmp_path)
    out = tmp_path / "new" / "folder"
    assert run("compare", *files, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "compare.json",
        "table.md",
        "utility.png",
    ]
    check_image(out / "utility.png")
    record = json.loads((out / "compare.json").read_text())
    assert record["names"] == ["A: a", "B: b"]
    expected = []
    for file in files:
        with np.load(file) as arrays:
            expected.append(evaluate_embeddings(arrays["embeddings"], arrays["labels"]))
    change = record["changes"]["opis"]
    assert change["first"] == pytest.approx(expected[0].opis, rel=1e-6)
    assert change["second"] == pytest.approx(expected[1].opis, rel=1e-6)
    low, high = change["difference"]["interval"]
    assert low < change["difference"]["value"] < high
    printed = capsys.readouterr()
    table = (out / "table.md").read_text(encoding="utf-8")
    for text in printed.out, table:
        for word in "A: a", "B: b", "R@1", "mAP@R", "10%-OPIS", "EER", "FRR at FAR 1%":
            assert word in text
        assert f"{1000 * change['first']:.3f}" in text
        assert "bootstrap over the 12 classes" in " ".join(text.split())
    assert printed.err == ""
    assert str(out) in printed.out.replace("\n", "")


def test_compare_a_file_with_itself_and_with_options(tmp_path):
    (file, _) = write_two(tmp_path)
    out = tmp_path / "out"
    options = ["--far-range", "0.02", "0.3", "--distance", "euclidean"]
    options += ["--beta", "2", "--epsilon", "0.25"]
    assert run("compare", file, file, "--out", out, *options) == 0
    record = json.loads((out / "compare.json").read_text())
    expected = evaluate_embeddings(
        X, Y, far_range=(0.02, 0.3), distance="euclidean", beta=2.0, epsilon=0.25
    )
    change = record["changes"]["epsilon_opis"]
    assert change["first"] == pytest.approx(expected.epsilon_opis, rel=1e-6)
    assert change["difference"] == {"value": 0.0, "interval": [0.0, 0.0]}
    assert "25%-OPIS" in (out / "table.md").read_text(encoding="utf-8")


def test_compare_with_a_gallery(tmp_path):
    gallery = {"gallery_embeddings": GALLERY_X, "gallery_labels": GALLERY_Y}
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y, **gallery)
    out = tmp_path / "out"
    assert run("compare", file, file, "--out", out) == 0
    record = json.loads((out / "compare.json").read_text())
    expected = evaluate_embeddings(X, Y, **gallery)
    assert record["changes"]["opis"]["first"] == pytest.approx(expected.opis, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "mentioned"),
    [
        ({"labels": np.roll(Y, 1)}, ["a.npz", "b.npz", "same order", "index"]),
        ({"labels": Y.astype(str)}, ["a.npz", "b.npz", "same order", "index 0"]),
        (
            {"labels": Y[:-1], "embeddings": X[:-1]},
            ["a.npz", "b.npz", "same samples", "96 and 95"],
        ),
        ({"labels": np.eye(12)[Y]}, ["a.npz", "b.npz", "`labels`", "shape"]),
        ({"labels": np.int64(3)}, ["a.npz", "b.npz"]),
        ({"embeddings": X[:-1]}, ["B: b", "`labels`", "96", "95"]),
        ({"embeddings": with_nan_row()}, ["B: b", "`embeddings`", "index 5"]),
        (
            {"gallery_embeddings": GALLERY_X, "gallery_labels": GALLERY_Y},
            ["a.npz", "b.npz", "`gallery_embeddings`"],
        ),
    ],
)
def test_mistakes_in_what_is_compared(tmp_path, capsys, changes, mentioned):
    files = write_two(tmp_path, **changes)
    code = run("compare", *files, "--out", tmp_path / "out")
    check_mistake(capsys, code, *mentioned)


def test_galleries_must_be_the_same(tmp_path, capsys):
    files = []
    for name, labels in ("a", GALLERY_Y), ("b", GALLERY_Y[::-1]):
        gallery = {"gallery_embeddings": GALLERY_X, "gallery_labels": labels}
        files.append(write(tmp_path / f"{name}.npz", embeddings=X, labels=Y, **gallery))
    code = run("compare", *files, "--out", tmp_path / "out")
    check_mistake(capsys, code, "a.npz", "b.npz", "`gallery_labels`", "index")


def test_mistakes_around_compare(tmp_path, capsys):
    files = write_two(tmp_path)
    out = tmp_path / "out"
    code = run("compare", files[0], tmp_path / "none.npz", "--out", out)
    check_mistake(capsys, code, "none.npz", "No such file")
    code = run("compare", *files, "--out", out, "--epsilon", "2")
    check_mistake(capsys, code, "epsilon", "2.0")
    (tmp_path / "taken").write_text("kept")
    code = run("compare", *files, "--out", tmp_path / "taken")
    check_mistake(capsys, code, "taken")
    (out / "compare.json").mkdir(parents=True)
    code = run("compare", *files, "--out", out)
    check_mistake(capsys, code, "compare.json")


def test_pickled_arrays_are_not_compared(tmp_path, capsys):
    marker = tmp_path / "executed"
    bombs = np.empty(len(Y), dtype=object)
    bombs[:] = [Bomb(marker) for _ in Y]
    file, _ = write_two(tmp_path)
    np.savez(tmp_path / "bomb.npz", allow_pickle=True, embeddings=X, labels=bombs)
    code = run("compare", file, tmp_path / "bomb.npz", "--out", tmp_path / "out")
    check_mistake(capsys, code, "bomb.npz")
    assert not marker.exists()


# ---------------------------------------------------------------- study and its report


@pytest.fixture
def studied(tmp_path):
    """Folder of a small study."""
    runs = pair(measures(opis=0.004), measures(opis=0.003))
    return write_runs(tmp_path / "study", runs)


def test_report(studied, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert run("report", studied, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "images",
        "study.html",
        "study.md",
    ]
    printed = capsys.readouterr()
    assert "4.000 → 3.000" in printed.out
    assert str(out) in printed.out.replace("\n", "")
    assert printed.err == ""
    assert sorted(path.name for path in studied.iterdir()) == ["runs"]


def test_report_goes_to_the_folder_of_the_study_and_replaces_that_there(studied):
    for _ in range(2):
        assert run("report", studied) == 0
    assert sorted(path.name for path in studied.iterdir()) == [
        "images",
        "runs",
        "study.html",
        "study.md",
    ]


def test_report_without_runs(tmp_path, capsys):
    check_mistake(capsys, run("report", tmp_path), str(tmp_path), "runs")
    check_mistake(capsys, run("report", tmp_path / "none"), "none")


def test_report_on_a_damaged_run(studied, capsys):
    (studied / "runs" / "half.json").write_text('{"format": 1, "part": "comp')
    check_mistake(capsys, run("report", studied), "half.json")


@pytest.mark.parametrize("name", ["study.md", "study.html", "images/study_utility.png"])
def test_folder_in_the_way_of_the_report(studied, capsys, name):
    (studied / name).mkdir(parents=True)
    check_mistake(capsys, run("report", studied), pathlib.Path(name).name)


def test_study_runs_and_reports(tmp_path, monkeypatch, capsys):
    calls = []

    def run_study(out, preset, **options):
        calls.append((out, preset, options))
        write_runs(out, pair(measures(opis=0.004), measures(opis=0.003)))

    monkeypatch.setattr(runner, "run_study", run_study)
    out = tmp_path / "out"
    arguments = ["--preset", "smoke", "--out", out]
    assert run("study", *arguments) == 0
    assert "4.000 → 3.000" in capsys.readouterr().out
    assert (out / "study.html").exists()
    options = ["--data-dir", tmp_path, "--seeds", "3", "5", "--workers", "2"]
    options += ["--tcm", "0.8", "0.4", "0.3"]
    assert run("study", *arguments, *options) == 0
    nothing = {"data_dir": None, "seeds": None, "workers": None, "tcm": None}
    given = {
        "data_dir": str(tmp_path),
        "seeds": [3, 5],
        "workers": 2,
        "tcm": TCMSetting(0.8, 0.4, 0.3),
    }
    assert calls == [(out, "smoke", nothing), (out, "smoke", given)]


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        (["--seeds", "-1"], "seeds"),
        (["--seeds", "1", "2", "1"], "--seeds"),
        (["--workers", "0"], "workers"),
    ],
)
def test_mistakes_in_the_options_of_the_study(tmp_path, capsys, options, mentioned):
    code = run("study", "--preset", "smoke", "--out", tmp_path / "out", *options)
    check_mistake(capsys, code, mentioned, options[1])


@pytest.mark.parametrize("command", [("demo",), ("study", "--preset", "smoke")])
@pytest.mark.parametrize(
    ("values", "mentioned"),
    [
        (("1.1", "0.4", "0.3"), "POSITIVE_MARGIN=1.1"),
        (("0.4", "0.8", "0.3"), "NEGATIVE_MARGIN=0.8"),
        (("0.8", "0.4", "0"), "WEIGHT=0.0"),
    ],
)
def test_mistakes_in_the_margins(tmp_path, capsys, command, values, mentioned):
    code = run(*command, "--out", tmp_path, "--tcm", *values)
    check_mistake(capsys, code, mentioned)


def test_toy(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(commands.toy, "run_toy", lambda *given: calls.append(given))
    assert run("toy", "--out", tmp_path / "out", "--data", "digits", "--seed", "4") == 0
    assert calls == [(tmp_path / "out", "digits", 4)]
    assert "Written to" in capsys.readouterr().out


def test_mistakes_in_the_options_of_the_toy(tmp_path, capsys):
    code = run("toy", "--out", tmp_path, "--seed", "-1")
    check_mistake(capsys, code, "seed", "-1")


def test_study_that_cannot_be_run(tmp_path, monkeypatch, capsys):
    def run_study(out, preset, **options):
        raise FileNotFoundError("no data set in nowhere")

    monkeypatch.setattr(runner, "run_study", run_study)
    code = run("study", "--preset", "paper", "--out", tmp_path / "out")
    check_mistake(capsys, code, "no data set in nowhere")


def test_file_in_the_way_of_the_study(tmp_path, capsys):
    (tmp_path / "taken").write_text("kept")
    code = run("study", "--preset", "smoke", "--out", tmp_path / "taken")
    check_mistake(capsys, code, "taken")


# ----------------------------------------------------------------- choice of a backend


@pytest.fixture
def backend_chosen(monkeypatch):
    """Run the entry point where some backends are installed; the choice, or `None`."""

    def choose(*installed, variable=None):
        # Setting before deleting: what the entry point sets is undone in the end.
        monkeypatch.setenv("KERAS_BACKEND", variable or "")
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        if variable is None:
            monkeypatch.delenv("KERAS_BACKEND")
        find_spec = importlib.util.find_spec

        def find(name, *rest):
            if name in ("tensorflow", "torch", "jax"):
                return object() if name in installed else None
            return find_spec(name, *rest)

        chosen = []
        monkeypatch.setattr(importlib.util, "find_spec", find)
        monkeypatch.setattr(
            cli, "main", lambda: chosen.append(os.environ["KERAS_BACKEND"]) or 0
        )
        code = keras_tcm_command.main()
        assert code == (0 if chosen else 2)
        return chosen[0] if chosen else None

    return choose


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (("jax", "torch", "tensorflow"), "tensorflow"),
        (("jax", "torch"), "torch"),
        (("jax",), "jax"),
    ],
)
def test_fastest_installed_backend_is_chosen(backend_chosen, installed, expected):
    assert backend_chosen(*installed) == expected


def test_backend_of_the_environment_is_respected(backend_chosen):
    assert backend_chosen("tensorflow", "torch", "jax", variable="jax") == "jax"


def test_without_a_backend_the_command_says_what_to_install(backend_chosen, capsys):
    assert backend_chosen() is None
    error = capsys.readouterr().err
    for extra in "[tensorflow]", "[torch]", "[jax]":
        assert extra in error
    assert len(error.strip().splitlines()) == 1


def run_process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "keras_tcm_command", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_as_a_process(tmp_path):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    done = run_process("evaluate", file, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    check_output(tmp_path / "out", "a", evaluate_embeddings(X, Y))


@pytest.mark.slow
def test_mistake_as_a_process(tmp_path):
    done = run_process("evaluate", tmp_path / "none.npz", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "none.npz" in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_unknown_backend_as_a_process():
    done = run_process("--help", KERAS_BACKEND="abacus")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "abacus" in done.stderr
