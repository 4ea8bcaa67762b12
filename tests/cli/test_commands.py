"""The command line: what it writes, and what it says about mistakes."""

import contextlib
import importlib
import io
import json
import os
import pathlib
import pickle
import signal
import sys
import time
import zipfile

import numpy as np
import psutil
import pytest
from PIL import Image
from processes import end, finish, start, wait_until
from study_runs import measures, pair, write_runs

from keras_tcm import (
    Evaluation,
    ScoreNormalization,
    Threshold,
    choose_threshold,
    cli,
    evaluate_embeddings,
)
from keras_tcm.cli.commands import demo, study, toy
from keras_tcm.cli.messages import legible
from keras_tcm.study import TCMSetting
from keras_tcm.study.run_record import read_run


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
        return cli.run([str(argument) for argument in arguments])
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
    """Cells of a Markdown table by the first cell of the row.

    What belongs to a threshold, after a dash, has its name before its own.
    """
    rows, threshold = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        assert line.startswith("| ")
        assert line.endswith(" |")
        first, *others = (cell.strip() for cell in line[2:-2].split(" | "))
        if first.startswith("threshold"):
            threshold = first
        rows[threshold + first if first.startswith("-") else first] = others
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
    check_image(out / "utility.png")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"{expected.opis:.6f}" in page
    for point in expected.operating_points:
        threshold = f"threshold at FAR {100 * point.far_target:g}%"
        if not point.resolved:
            assert table[threshold] == ["not resolved"]
            continue
        assert table[threshold] == [f"{point.threshold:.4f}"]
        assert table[f"{threshold}- achieved FAR"] == [f"{point.far:.4%}"]
        assert table[f"{threshold}- FRR (lower is better)"] == [f"{point.frr:.2%}"]
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


def test_evaluate_at_other_targets(tmp_path, capsys):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    out = tmp_path / "out"
    targets = (0.025, 0.3, 0.00001)
    assert run("evaluate", file, "--out", out, "--far-targets", *targets) == 0
    expected = evaluate_embeddings(X, Y, far_targets=targets)
    check_output(out, "a", expected)
    saved = Evaluation.load(out / "a.json")
    assert [p.far_target for p in saved.operating_points] == list(targets)
    thresholds = [
        name for name in read_table(out / "table.md") if name.startswith("th")
    ]
    assert thresholds == [
        f"threshold at FAR {name}{rest}"
        for name in ("2.5%", "30%", "0.001%")
        for rest in ("", "- achieved FAR", "- FRR (lower is better)")
    ]
    assert "FAR <= 0.025" in capsys.readouterr().out


def test_evaluate_at_thresholds(tmp_path, capsys):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    options = ["--at-threshold", "0.3", "0.75", "--at-threshold", "1"]
    assert run("evaluate", file, "--out", tmp_path / "out", *options) == 0
    expected = evaluate_embeddings(X, Y, at_thresholds=(0.3, 0.75, 1.0))
    assert expected.summary() in capsys.readouterr().out
    rows = read_table(tmp_path / "out" / "table.md")
    for threshold in 0.3, 0.75, 1.0:
        rates = expected.rates_at(threshold)
        assert rows[f"FAR at threshold {threshold:g}"] == [f"{rates.far:.4%}"]
        assert rows[f"FRR at threshold {threshold:g}"] == [f"{rates.frr:.2%}"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--at-threshold", "-3"], "`--at-threshold`"),
        (["--far-targets", "0"], "`--far-targets`"),
        (["--far-range", "0.5", "0.1"], "`--far-range`"),
        (["--gallery-includes-queries"], "`--gallery-includes-queries`"),
    ],
)
def test_mistakes_are_told_in_words_of_the_command(tmp_path, capsys, options, name):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    assert run("evaluate", file, "--out", tmp_path / "out", *options) == 2
    assert name in capsys.readouterr().err


def test_folder_that_is_a_file(tmp_path, capsys):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    assert run("evaluate", file, "--out", file) == 2
    assert "it is a file, not a folder" in capsys.readouterr().err


def test_gallery_that_includes_the_queries(tmp_path):
    both = {"gallery_embeddings": X, "gallery_labels": Y}
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y, **both)
    expected = evaluate_embeddings(X, Y)
    option = "--gallery-includes-queries"
    assert run("evaluate", file, "--out", tmp_path / "out", option) == 0
    assert Evaluation.load(tmp_path / "out" / "a.json").recall == expected.recall
    assert run("compare", file, file, "--out", tmp_path / "both", option) == 0
    record = json.loads((tmp_path / "both" / "compare.json").read_text())
    assert record["changes"]["recall_at_1"]["first"] == expected.recall[1]


def test_evaluate_single_arrays(tmp_path):
    names = "embeddings", "labels", "gallery_embeddings", "gallery_labels"
    files = [tmp_path / f"{name}.npy" for name in names]
    for file, array in zip(files, (X, Y, GALLERY_X, GALLERY_Y), strict=True):
        np.save(file, array)
    arguments = ["evaluate", files[0], "--labels", files[1]]
    assert run(*arguments, "--out", tmp_path / "alone") == 0
    check_output(tmp_path / "alone", "embeddings", evaluate_embeddings(X, Y))
    arguments += ["--gallery", files[2], "--gallery-labels", files[3]]
    assert run(*arguments, "--out", tmp_path / "both") == 0
    expected = evaluate_embeddings(
        X, Y, gallery_embeddings=GALLERY_X, gallery_labels=GALLERY_Y
    )
    check_output(tmp_path / "both", "embeddings", expected)


class TestTwoTowers:
    """Queries and items: stacked, or a gallery that does not hold every answer."""

    STACKED = np.stack([X + 0.1, X + 0.3 * samples(seed=1)[0]], axis=1)

    def test_stacked(self, tmp_path, capsys):
        file = write(tmp_path / "a.npz", embeddings=self.STACKED, labels=Y)
        assert run("evaluate", file, "--out", tmp_path / "out") == 0
        expected = evaluate_embeddings(self.STACKED, Y)
        check_output(tmp_path / "out", "a", expected)
        assert expected.summary() in capsys.readouterr().out
        split = write(
            tmp_path / "b.npz",
            embeddings=self.STACKED[:, 0],
            labels=Y,
            gallery_embeddings=self.STACKED[:, 1],
            gallery_labels=Y,
        )
        chosen = []
        for name in file, split:
            out = name.with_suffix(".json")
            assert run("threshold", name, "--far", 0.3, "--out", out) == 0
            assert run("check", out, name) in (0, 3)
            chosen.append((Threshold.load(out).to_dict(), capsys.readouterr().out))
        assert chosen[0][0] == chosen[1][0]
        assert chosen[0][1] == chosen[1][1].replace("b.json", "a.json")
        assert run("compare", file, file, "--out", tmp_path / "both") == 0

    def test_mistakes(self, tmp_path, capsys):
        triple = np.repeat(self.STACKED, 2, axis=1)[:, :3]
        file = write(tmp_path / "a.npz", embeddings=triple, labels=Y)
        for command in "evaluate", "threshold":
            options = ("--far", 0.1) if command == "threshold" else ()
            code = run(command, file, *options, "--out", tmp_path / "out")
            check_mistake(capsys, code, "a.npz: `embeddings`", "(96, 3, 6)")
        file = write(tmp_path / "b.npz", embeddings=self.STACKED, labels=Y)
        options = ("--gallery-includes-queries", "--out", tmp_path / "out")
        code = run("evaluate", file, *options)
        check_mistake(capsys, code, "b.npz: `--gallery-includes-queries` must be False")

    def test_open_set(self, tmp_path, capsys):
        known = Y < 8
        file = write(
            tmp_path / "a.npz",
            embeddings=X,
            labels=Y,
            gallery_embeddings=self.STACKED[known, 1],
            gallery_labels=Y[known],
        )
        unanswerable = f"{np.count_nonzero(~known)} queries without a positive"
        assert run("evaluate", file, "--out", tmp_path / "out") == 0
        assert unanswerable in capsys.readouterr().out
        out = tmp_path / "threshold.json"
        assert run("threshold", file, "--far", 0.3, "--out", out) == 0
        assert unanswerable in capsys.readouterr().out
        assert run("check", out, file) in (0, 3)
        printed = capsys.readouterr().out
        assert f"Open-set FAR {Threshold.load(out).open_set_far:.3%}" in printed

    def test_zero_rows_are_told(self, tmp_path, capsys):
        stacked = self.STACKED.copy()
        stacked[[3, 5], 1] = 0
        file = write(tmp_path / "a.npz", embeddings=stacked, labels=Y)
        assert run("evaluate", file, "--out", tmp_path / "out") == 0
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.npz: 2 of 192 rows of `embeddings` are all zero" in line


@pytest.mark.parametrize(
    ("distance", "text"), [("cosine", "distance 1 "), ("euclidean", "distance 1.414 ")]
)
def test_zero_rows_are_told(tmp_path, capsys, distance, text):
    x = X.copy()
    x[[3, 5, 8]] = 0
    file = write(tmp_path / "a.npz", embeddings=x, labels=Y)
    options = ["--distance", distance, "--out", tmp_path / "out"]
    assert run("evaluate", file, *options) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keras-tcm: warning: ")
    assert "a.npz: 3 of 96 rows of `embeddings` are all zero" in line
    assert text in line
    other = write(tmp_path / "b.npz", embeddings=X, labels=Y)
    gallery = ["--gallery", file, file]
    assert run("compare", other, other, *gallery, *options) == 0
    error = capsys.readouterr().err
    assert "3 of 96 rows of `gallery_embeddings` are all zero" in error


def test_evaluate_into_an_existing_folder_replaces_its_files(tmp_path):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    out = tmp_path / "out"
    assert run("evaluate", file, "--out", out) == 0
    write(file, embeddings=GALLERY_X, labels=GALLERY_Y)
    assert run("evaluate", file, "--out", out) == 0
    check_output(out, "a", evaluate_embeddings(GALLERY_X, GALLERY_Y))


@pytest.mark.parametrize(
    "name",
    [
        *("a$_{b$", "[bold]é[-]", "a\nb", "---", "<b>&amp;", "100%s", "a:b"),
        *("\x1b[31m", os.fsdecode(b"\xff"), "x" * 251, 41 * "文字"),
    ],
)
def test_evaluate_a_file_of_any_name(tmp_path, name):
    file = write(tmp_path / f"{name}.npz", embeddings=X, labels=Y)
    out = tmp_path / "out"
    assert run("evaluate", file, "--out", out) == 0
    check_image(out / "utility.png")
    (saved,) = out.glob("*.json")
    assert not saved.name.startswith(".")
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
        ({"embeddings": np.ones_like(X), "labels": Y}, ["`--far-range`", "collapsed"]),
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
        (["--far-range", "0.1", "0.01"], ["far-range", "0.1"]),
        (["--far-range", "0", "0.1"], ["far-range"]),
        (["--far-range", "0.00001", "0.1"], ["far-range", "resolv"]),
        (["--beta", "0"], ["beta"]),
        (["--epsilon", "1.5"], ["epsilon", "1.5"]),
        (["--far-targets", "0.1", "2"], ["far-targets", "2.0"]),
        (["--far-targets", "nan"], ["far-targets", "nan"]),
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
        (["compare", "a.npz", "--out", "out"], "B"),
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


NO_MATPLOTLIB = 'Figures need matplotlib: pip install "keras-tcm[viz]"'


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in [*sys.modules, "matplotlib"]:
        if name.partition(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_matplotlib")
@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_only_the_figure_needs_matplotlib(tmp_path, capsys, command):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    files = [file] * (2 if command == "compare" else 1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "utility.png").write_text("of other results")
    assert run(command, *files, "--out", out) == 0
    texts = ["a.json", "report.html"] if command == "evaluate" else ["compare.json"]
    assert sorted(path.name for path in out.iterdir()) == [*texts, "table.md"]
    printed = capsys.readouterr()
    assert printed.err == (
        f"keras-tcm: warning: utility.png is not written. {NO_MATPLOTLIB}\n"
    )
    assert "OPIS" in printed.out


@pytest.mark.usefixtures("without_matplotlib")
@pytest.mark.parametrize(
    "arguments",
    [
        ["study", "--preset", "smoke", "--out", "out"],
        ["toy", "--out", "out", "--data", "digits"],
        ["report", "out"],
    ],
)
def test_missing_matplotlib_is_told_before_the_work(
    tmp_path, capsys, monkeypatch, arguments
):
    monkeypatch.chdir(tmp_path)
    for name in "cli.commands.study.run_study", "study.toy.train_model":
        monkeypatch.setattr(
            f"keras_tcm.{name}", lambda *_, **__: pytest.fail("trained")
        )
    check_mistake(capsys, run(*arguments), NO_MATPLOTLIB)


# ----------------------------------------------------------------------------- compare


class TestThreshold:
    def samples(self, tmp_path, seed=0, shift=0.0):
        rng = np.random.default_rng(seed)
        y = np.repeat(np.arange(150), 5)
        x = rng.normal(size=(150, 8))[y] + 0.5 * rng.normal(size=(750, 8)) + shift
        return write(tmp_path / f"{seed}.npz", embeddings=x, labels=y), x, y

    def test_it_is_chosen_and_checked(self, tmp_path, capsys):
        file, x, y = self.samples(tmp_path)
        out = tmp_path / "threshold.json"
        options = ("--far", 0.03, "--confidence", 0.9, "--distance", "euclidean")
        assert run("threshold", file, *options, "--out", out) == 0
        expected = choose_threshold(
            x, y, far=0.03, confidence=0.9, distance="euclidean"
        )
        assert Threshold.load(out).to_dict() == expected.to_dict()
        assert expected.summary() in capsys.readouterr().out
        assert run("check", out, file) == 0
        assert "The promise: holds" in capsys.readouterr().out
        other, *_ = self.samples(tmp_path, seed=1, shift=0.6)
        assert run("check", out, other) == 3
        assert "The promise: broken" in capsys.readouterr().out

    def test_thresholds_of_normalised_scores_are_for_python(self, tmp_path, capsys):
        file, x, y = self.samples(tmp_path)
        cohort = np.random.default_rng(0).normal(size=(100, x.shape[1]))
        threshold = choose_threshold(
            x, y, far=0.05, score_normalization=ScoreNormalization(cohort)
        )
        threshold.save(tmp_path / "threshold.json")
        code = run("check", tmp_path / "threshold.json", file)
        check_mistake(capsys, code, "threshold.json", "`Threshold.check` in Python")

    def test_options_of_the_promise(self, tmp_path):
        file, x, y = self.samples(tmp_path)
        out = tmp_path / "threshold.json"
        promise = ("--promise", "class", "--class-share", 0.8)
        assert run("threshold", file, "--frr", 0.5, *promise, "--out", out) == 0
        expected = choose_threshold(x, y, frr=0.5, promise="class", class_share=0.8)
        assert Threshold.load(out).to_dict() == expected.to_dict()

    @pytest.mark.parametrize(
        ("options", "mentioned"),
        [
            ((), "`--far` or `--frr` must be given"),
            (("--far", 0), "`--far` must be a number in (0, 1)"),
            (("--far", 1e-6), "with 150 classes"),
            (("--far", 0.1, "--confidence", 1), "`--confidence` must be a number"),
            (("--far", 0.1, "--class-share", 2), "`--class-share` must be a number"),
        ],
    )
    def test_mistakes(self, tmp_path, capsys, options, mentioned):
        file, *_ = self.samples(tmp_path)
        out = tmp_path / "threshold.json"
        code = run("threshold", file, *options, "--out", out)
        check_mistake(capsys, code, mentioned)
        assert not out.exists()

    def test_a_file_that_is_no_threshold(self, tmp_path, capsys):
        file, *_ = self.samples(tmp_path)
        code = run("check", file, file)
        check_mistake(capsys, code, "a file that `Threshold.save` wrote")
        code = run("check", tmp_path / "none.json", file)
        check_mistake(capsys, code, "none.json")


def test_the_demo_ends_with_what_to_do():
    x, y = samples(num_classes=60)
    result = evaluate_embeddings(x, y)
    text = demo.advice({"without": result, "with TCM": result})
    point = result.operating_point(0.01)
    low, high = point.intervals["far"]
    assert (
        f"To use with TCM: accept a pair up to the distance {point.threshold:.4f}"
        in (text)
    )
    assert f"accepts {low:.2%} to {high:.2%}" in text
    few = evaluate_embeddings(x[:9], np.arange(9) // 3, far_range=(0.1, 0.5))
    assert "too few characters" in demo.advice({"with TCM": few})


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
    directions = {
        name.split(" (")[0]: name.partition("), ")[2] for name in read_rows(table)
    }
    assert directions == {
        "R@1": "higher is better",
        "mAP@R": "higher is better",
        "OPIS": "lower is better",
        "10%-OPIS": "lower is better",
        "EER": "lower is better",
        "FRR at FAR 1%": "lower is better",
    }


def read_rows(markdown):
    """First cells of the rows of measures."""
    rows = [line[2:].split(" | ")[0] for line in markdown.splitlines()]
    return [row for row in rows if " (" in row and "better" in row]


def test_compare_single_arrays(tmp_path):
    arrays = {"a": X, "b": X[:, :4], "y": Y}
    arrays |= {"ga": GALLERY_X, "gb": GALLERY_X[:, :4], "gy": GALLERY_Y}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    a, b, y, ga, gb, gy = (tmp_path / f"{name}.npy" for name in arrays)
    arguments = [a, b, "--labels", y, "--gallery", ga, gb, "--gallery-labels", gy]
    assert run("compare", *arguments, "--out", tmp_path / "out") == 0
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    for name, columns in ("first", 6), ("second", 4):
        expected = evaluate_embeddings(
            X[:, :columns],
            Y,
            gallery_embeddings=GALLERY_X[:, :columns],
            gallery_labels=GALLERY_Y,
        )
        opis = record["changes"]["opis"][name]
        assert opis == pytest.approx(expected.opis, rel=1e-6)


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


@pytest.mark.parametrize("name", ["compare.json", "table.md", "utility.png"])
def test_folder_in_the_way_of_a_comparison(tmp_path, capsys, name):
    files = write_two(tmp_path)
    (tmp_path / "out" / name).mkdir(parents=True)
    assert run("compare", *files, "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("keras-tcm: error: ")
    assert name in printed.err
    # What was found out is not lost.
    assert "OPIS" in printed.out


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

    monkeypatch.setattr(study, "run_study", run_study)
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
    monkeypatch.setattr(toy, "run_toy", lambda *given: calls.append(given))
    assert run("toy", "--out", tmp_path / "out", "--data", "digits", "--seed", "4") == 0
    assert calls == [(tmp_path / "out", "digits", 4)]
    assert "Written to" in capsys.readouterr().out


def test_mistakes_in_the_options_of_the_toy(tmp_path, capsys):
    code = run("toy", "--out", tmp_path, "--seed", "-1")
    check_mistake(capsys, code, "seed", "-1")


def test_study_that_cannot_be_run(tmp_path, monkeypatch, capsys):
    def run_study(out, preset, **options):
        raise FileNotFoundError("no data set in nowhere")

    monkeypatch.setattr(study, "run_study", run_study)
    code = run("study", "--preset", "paper", "--out", tmp_path / "out")
    check_mistake(capsys, code, "no data set in nowhere")


def test_file_in_the_way_of_the_study(tmp_path, capsys):
    (tmp_path / "taken").write_text("kept")
    code = run("study", "--preset", "smoke", "--out", tmp_path / "taken")
    check_mistake(capsys, code, "taken")


# ----------------------------------------------------------------------- as a process


def start_command(*arguments, **environment):
    return start("-m", "keras_tcm_command", *arguments, **environment)


def own_lines(errors):
    """The lines that are not TensorFlow's, which it writes before it reads settings."""
    known = "absl::InitializeLog()", "oneDNN custom operations"
    return [
        line for line in errors.splitlines() if not any(text in line for text in known)
    ]


@pytest.mark.slow
def test_as_a_process(tmp_path):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    # Figures go to files, whatever a notebook draws with.
    environment = {"MPLBACKEND": "module://no_such_module_for_figures"}
    environment |= {"PYTHONIOENCODING": "ascii", "COLUMNS": "40"}
    out = tmp_path / "é"
    output, _ = finish(start_command("evaluate", file, "--out", out, **environment))
    assert output.isascii()
    check_output(out, "a", evaluate_embeddings(X, Y))


@pytest.mark.slow
def test_mistake_as_a_process(tmp_path):
    process = start_command("evaluate", tmp_path / "none.npz", "--out", tmp_path / "o")
    output, errors = finish(process, 2)
    assert output == ""
    assert "Traceback" not in errors
    assert "none.npz" in errors.strip().splitlines()[-1]


@pytest.fixture
def run_main(monkeypatch):
    """Runs the command as a process would, but in this one."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in "MPLBACKEND", "TF_CPP_MIN_LOG_LEVEL":
        monkeypatch.setenv(name, "agg")

    def run_main(*words):
        monkeypatch.setattr(sys, "argv", ["keras-tcm", *map(str, words)])
        return cli.main()

    return run_main


@pytest.mark.parametrize("columns", ["1", "40"])
@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_terminal_that_is_narrow_and_knows_ascii_alone(
    tmp_path, monkeypatch, run_main, command, columns
):
    file = write(tmp_path / "Zoë 文字.npz", embeddings=X, labels=Y)
    out = tmp_path / f"é {command}"
    buffer = io.BytesIO()
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    files = [file] * (2 if command == "compare" else 1)
    assert run_main(command, *files, "--out", out) == 0
    assert f"{command}\n" in buffer.getvalue().decode("ascii")
    assert (out / "utility.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-a.npz", os.fsdecode(b"a\xff\n.npz")])
def test_unusual_names_as_a_process(tmp_path, capsys, name):
    write(tmp_path / name, embeddings=X, labels=Y)
    out = tmp_path / f"out {name}"
    words = ["evaluate", "--out", out, "--"]
    output, _ = finish(start_command(*words, tmp_path / name))
    assert output.splitlines()[-1] == f"Written to {legible(out)}"
    check_mistake(capsys, run(*words, tmp_path / f"no {name}"), legible(f"no {name}"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there are no such pipes")
def test_reader_that_stops_reading(tmp_path):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    process = start_command("evaluate", file, "--out", tmp_path / "out")
    process.stdout.close()
    assert process.wait(600) == 141
    assert own_lines(process.stderr.read()) == []
    check_output(tmp_path / "out", "a", evaluate_embeddings(X, Y))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such file")
def test_output_that_cannot_be_written(tmp_path, monkeypatch, capsys, run_main):
    file = write(tmp_path / "a.npz", embeddings=X, labels=Y)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run_main("evaluate", file, "--out", tmp_path / "out") == 2
        with contextlib.suppress(OSError):
            full.close()
    error = capsys.readouterr().err
    assert error.startswith("keras-tcm: error: ")
    assert "No space left" in error


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there are no such signals")
@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.kill, signal.SIGINT, 130),
        (os.kill, signal.SIGTERM, 143),
        # What a terminal does.
        (os.killpg, signal.SIGINT, 130),
    ],
)
def test_interrupted_study_ends_its_workers(tmp_path, send, number, code):
    options = ["--preset", "smoke", "--workers", "2", "--out", tmp_path / "out"]
    process = start_command("study", *options)
    assert "runs, 0 of them finished" in process.stdout.readline()
    parent = psutil.Process(process.pid)
    wait_until(lambda: len(spawned(parent)) == 2, process)
    # Some of them are importing Keras, and some have begun.
    time.sleep(2)
    errors = end(process, send, number)
    assert process.returncode == code
    assert own_lines(errors) == ["keras-tcm: interrupted"]
    # Whole or not there.
    for path in (tmp_path / "out" / "runs").iterdir():
        read_run(path)


def spawned(process):
    return [
        child for child in process.children() if "spawn_main" in str(child.cmdline())
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), KeyboardInterrupt(15)])
@pytest.mark.parametrize("command", ["evaluate", "compare", "toy", "report", "study"])
def test_interrupted_anywhere(tmp_path, capsys, monkeypatch, run_main, command, error):
    def interrupted(*arguments, **options):
        raise error

    for name in (
        "evaluate.evaluate_embeddings",
        "compare.write_comparison",
        "toy.run_toy",
        "report.write_study_report",
        "study.run_study",
    ):
        monkeypatch.setattr(f"keras_tcm.cli.commands.{name}", interrupted)
    file = str(write(tmp_path / "a.npz", embeddings=X, labels=Y))
    files = {"evaluate": [file], "compare": [file, file], "report": [str(tmp_path)]}
    words = [command, *files.get(command, ()), "--out", str(tmp_path / "out")]
    words += ["--preset", "smoke"] if command == "study" else []
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as stop:
        run_main(*words)
    assert stop.value.code == (143 if error.args else 130)
    assert capsys.readouterr().err == "keras-tcm: interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_a_backend_is_imported(capsys, monkeypatch, number):
    def import_module(name):
        # As backends do, which call what discards exceptions.
        with contextlib.suppress(Exception, KeyboardInterrupt):
            os.kill(os.getpid(), number)
        pytest.fail("the process goes on")

    before = signal.getsignal(number)
    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as stop:
        cli.run(["toy", "--out", "out"])
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err == "keras-tcm: interrupted\n"
    assert signal.getsignal(number) is before
