"""The page as a file: its numbers, what it escapes, and that it needs nothing else."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import sys

import matplotlib
import numpy as np
import pytest
from pages import HOSTILE_NAMES, LABELS, NAMES, X, elements, evaluate
from PIL import Image

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.visualization import plot_error_rates
from keras_tcm.visualization.palette import ON_DARK, ON_LIGHT

matplotlib.use("Agg")

RESULT = evaluate()


def write(tmp_path, evaluation=RESULT, **options):
    path = tmp_path / "report.html"
    evaluation.to_html(path, **options)
    return path.read_text(encoding="utf-8")


def scripts(page):
    """Text of the data and of the script."""
    data, script = elements(page, "script")
    assert data[0] == {"type": "application/json", "id": "data"}
    assert script[0] == {"type": "module"}
    return data[1], script[1]


def read_data(page):
    return json.loads(scripts(page)[0])


def decode(text, rates):
    values = np.frombuffer(base64.b64decode(text), "<f4")
    return values.reshape(len(rates["thresholds"]), -1)


# ----------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    "options", [{}, {"distance": "euclidean", "beta": 2.0}, {"max_pairs": 8000}]
)
def test_data_is_that_of_the_evaluation(tmp_path, options):
    result = evaluate(**options)
    data = read_data(write(tmp_path, result))
    assert data["classes"] == list(result.classes)
    assert data["labels"] is None
    assert data["thumbnails"] is None
    assert data["samples"] == result.class_counts.tolist()
    assert data["distance"] == result.distance
    assert data["beta"] == result.beta
    assert data["calibration_range"] == list(result.calibration_range)
    assert sum(data["share"]) == pytest.approx(1.0)
    np.testing.assert_allclose(
        np.array(data["share"]) * result.opis * len(result.classes),
        result.opis_per_class,
    )
    rates = data["rates"]
    for name in "thresholds", "far", "frr":
        assert rates[name] == getattr(result.error_rates, name).tolist()
    for name in "per_class_far", "per_class_frr":
        np.testing.assert_array_equal(
            decode(rates[name], rates).T, getattr(result.error_rates, name)
        )


def test_bands_hold_nine_tenths_of_the_classes(tmp_path):
    result = evaluate_embeddings(
        np.random.default_rng(0).normal(size=(800, 8)), np.arange(800) % 200
    )
    data = read_data(write(tmp_path, result))
    for curves, (low, high) in [
        (result.error_rates.per_class_far, data["rates"]["far_band"]),
        (result.error_rates.per_class_frr, data["rates"]["frr_band"]),
        (result.error_rates.utility(1.0), data["utility_curves"]["band"]),
    ]:
        assert ((curves < low).mean(axis=0) <= 0.05).all()
        assert ((curves > high).mean(axis=0) <= 0.05).all()
        assert ((curves <= low).mean(axis=0) >= 0.05).all()
        assert ((curves >= high).mean(axis=0) >= 0.05).all()


def test_utility_curves_are_those_of_the_evaluation(tmp_path):
    curves = read_data(write(tmp_path))["utility_curves"]
    assert curves["thresholds"] == RESULT.error_rates.thresholds.tolist()
    places = np.searchsorted(curves["thresholds"], RESULT.thresholds)
    mean = np.array(curves["mean"])[places]
    np.testing.assert_allclose(mean, RESULT.utility.mean(axis=0), atol=1e-6)
    # The worst tenth against the others is what 10%-OPIS measures.
    worst = np.array(curves["worst"])[places]
    gap = np.square((mean - worst) * len(NAMES) / (len(NAMES) - 3))
    width = RESULT.thresholds[-1] - RESULT.thresholds[0]
    score = np.trapezoid(gap, RESULT.thresholds) / width
    assert score == pytest.approx(RESULT.epsilon_opis, rel=1e-4)


def test_thresholds_that_were_asked_for_are_on_the_slider(tmp_path):
    known = RESULT.operating_points[1].threshold
    result = evaluate(at_thresholds=(1.9, 0.05, known))
    data = read_data(write(tmp_path, result))
    rates = data["rates"]
    assert (np.diff(rates["thresholds"]) > 0).all()
    places = {point["name"]: point["index"] for point in data["points"]}
    for threshold in 0.05, 1.9, known:
        index = places[f"{threshold:g}"]
        assert rates["thresholds"][index] == threshold
        expected = result.rates_at(threshold)
        assert (rates["far"][index], rates["frr"][index]) == (
            expected.far,
            expected.frr,
        )
        for name in "per_class_far", "per_class_frr":
            np.testing.assert_allclose(
                decode(rates[name], rates)[index], getattr(expected, name), rtol=1e-6
            )


def test_buttons_are_the_resolved_operating_points_and_the_eer(tmp_path):
    result = evaluate(far_targets=(1e-6, 0.005, 0.2, 1.0))
    data = read_data(write(tmp_path, result))
    names = [point["name"] for point in data["points"]]
    assert names == ["FAR ≤ 0.5%", "FAR ≤ 20%", "EER"]
    *points, eer = data["points"]
    rates = [data["rates"][name][eer["index"]] for name in ("far", "frr")]
    assert np.mean(rates) == pytest.approx(result.eer)
    for shown, point in zip(points, result.operating_points[1:3], strict=True):
        assert data["rates"]["thresholds"][shown["index"]] == point.threshold
        assert data["rates"]["far"][shown["index"]] == point.far


@pytest.mark.parametrize("max_pairs", [None, 8000])
def test_summary_says_what_the_evaluation_does(tmp_path, max_pairs):
    result = evaluate(max_pairs=max_pairs, far_targets=(1e-6, 0.01, 0.1))
    page = write(tmp_path, result)
    _, (_, measures), _ = elements(page, "dl")
    for name, value in [
        ("OPIS", f"{result.opis:.6f}"),
        ("10%-OPIS", f"{result.epsilon_opis:.6f}"),
        ("EER", f"{result.eer:.4f}"),
        ("mAP@R", f"{result.map_at_r:.4f}"),
        *((f"R@{k}", f"{value:.4f}") for k, value in result.recall.items()),
    ]:
        assert re.search(rf"{re.escape(name)}\s*{re.escape(value)}", measures)
    assert measures.count("lower is better") == 3
    assert measures.count("higher is better") == 2
    rows = [text for _, text in elements(page, "tr")]
    for start, end in [
        ("Samples", "180"),
        ("Classes", "30"),
        ("Excluded classes", "0"),
        ("Positive pairs", f"{result.num_positive_pairs:,}"),
        ("Negative pairs", f"{result.num_negative_pairs:,}"),
        ("Calibration", "{:.4f} to {:.4f}".format(*result.calibration_range)),
    ]:
        assert any(row.startswith(start) and row.endswith(end) for row in rows), start
    unresolved, one, ten = (row for row in rows if row.startswith("FAR ≤"))
    assert unresolved.startswith("FAR ≤ 0.0001%not resolved")
    for row, point in (
        (one, result.operating_points[1]),
        (ten, result.operating_points[2]),
    ):
        for shown in f"{point.threshold:.6f}", f"{point.far:.4%}", f"{point.frr:.2%}":
            assert shown in row
    if max_pairs is None:
        assert "±" not in page.partition("<script")[0]
        assert "all pairs compared" in page
    else:
        assert f"± {result.standard_errors['opis']:.6f}" in measures
        assert f"± {result.standard_errors['recall_at_4']:.4f}" in measures
        assert f"± {result.operating_points[1].standard_errors['frr']:.2%}" in one
        assert "sample of the pairs" in page


def test_thresholds_are_not_rounded_past_their_targets(tmp_path):
    """What a user copies from the page accepts the pairs that it says."""
    page = write(tmp_path)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    labels = np.array(LABELS)
    first, second = np.triu_indices(len(labels), 1)
    distances = 1 - (unit[first] * unit[second]).sum(axis=1)
    negatives = distances[labels[first] != labels[second]]
    rows = [text for _, text in elements(page, "tr") if text.startswith("FAR ≤")]
    resolved = [point for point in RESULT.operating_points if point.resolved]
    assert len(resolved) == 3
    for row, point in zip(rows, resolved, strict=True):
        shown, *_ = re.findall(r"[01]\.\d{6}", row)
        assert (negatives <= float(shown)).mean() == pytest.approx(point.far, abs=1e-12)


@pytest.mark.parametrize("far_range", [(0.01, 0.1), (0.5, 0.9)])
def test_the_slider_reaches_the_eer_and_all_operating_points(tmp_path, far_range):
    """Whether the calibration range ends below it or begins above it."""
    result = evaluate(far_range=far_range, far_targets=(0.02, 0.3))
    data = read_data(write(tmp_path, result))
    thresholds = data["rates"]["thresholds"]
    crossing = thresholds[data["points"][-1]["index"]]
    assert not result.calibration_range[0] <= crossing <= result.calibration_range[1]
    reached = [*result.calibration_range, crossing]
    reached += [point.threshold for point in result.operating_points]
    assert [thresholds[0], thresholds[-1]] == [min(reached), max(reached)]


def test_excluded_classes_are_counted(tmp_path):
    labels = ["alone", *LABELS[1:]]
    page = write(tmp_path, evaluate_embeddings(X, labels))
    assert "Excluded classes" in page
    rows = [text for _, text in elements(page, "tr") if text.startswith("Excluded")]
    assert rows[0].endswith("1")


def test_a_share_of_no_opis_is_not_shown(tmp_path):
    """The estimate of a sample can fall below 0, and then nothing has a share of it."""
    result = dataclasses.replace(
        RESULT, opis_per_class=RESULT.opis_per_class - 2 * RESULT.opis
    )
    assert set(read_data(write(tmp_path, result))["share"]) == {None}


def test_page_of_a_saved_evaluation_has_the_same_rates(tmp_path):
    RESULT.save(tmp_path / "result.json")
    saved = read_data(write(tmp_path, Evaluation.load(tmp_path / "result.json")))
    data = read_data(write(tmp_path))
    for name in "classes", "samples", "rates", "points":
        assert saved[name] == data[name]


# ------------------------------------------------------------------- names and images


def numbered():
    """Thirty classes whose labels are the numbers from 100 on."""
    return evaluate_embeddings(X, np.repeat(np.arange(30), 6) + 100, verbose=False)


def test_names_of_the_classes(tmp_path):
    names = {100 + i: name for i, name in enumerate(NAMES)}
    data = read_data(write(tmp_path, numbered(), class_names=names))
    assert data["classes"] == NAMES
    assert data["labels"] == [str(100 + i) for i in range(30)]
    # Names of labels from 0 on, of which the evaluation has some.
    data = read_data(write(tmp_path, numbered(), class_names=["no"] * 100 + NAMES))
    assert data["classes"] == NAMES


def decode_image(uri):
    prefix, _, content = uri.partition(",")
    assert prefix == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_thumbnail_of_each_class(tmp_path):
    """The first image of each, in one of 30 shades, scaled down if it is large."""
    labels = np.arange(60)[::-1] % 30 + 100
    shades = (np.arange(60) * 4)[:, None, None, None]
    images = np.broadcast_to(shades, (60, 80, 160, 3)).astype("uint8")
    page = write(tmp_path, numbered(), images=images, labels=labels)
    data = read_data(page)
    assert data["labels"] is None
    assert len(data["thumbnails"]) == 30
    for place, uri in enumerate(data["thumbnails"]):
        image = decode_image(uri)
        assert image.size == (64, 32)
        # Sample 0 is of class 29, sample 29 of class 0.
        assert np.asarray(image).mean() == pytest.approx(4 * (29 - place), abs=2)
    small = read_data(
        write(tmp_path, numbered(), images=images[:, :28, :20], labels=labels)
    )
    assert decode_image(small["thumbnails"][0]).size == (20, 28)


def test_thumbnails_of_files(tmp_path):
    paths = []
    for number in range(30):
        paths.append(tmp_path / f"{number}.png")
        Image.new("L", (200, 100), 8 * number).save(paths[-1])
    data = read_data(
        write(tmp_path, numbered(), images=paths, labels=np.arange(30) + 100)
    )
    shown = [np.asarray(decode_image(uri)).mean() for uri in data["thumbnails"]]
    assert shown == pytest.approx([8 * number for number in range(30)], abs=2)


def test_thumbnails_stay_small(tmp_path):
    """Noise is the worst that JPEG can get; classes beyond the 500th have none."""
    many = 520
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (many, 64, 64, 3), dtype="uint8")
    rates = RESULT.error_rates
    wide = {
        name: np.resize(getattr(rates, name), (many, len(rates.thresholds)))
        for name in ("per_class_far", "per_class_frr")
    }
    result = dataclasses.replace(
        RESULT,
        classes=np.arange(many),
        class_counts=np.full(many, 2),
        opis_per_class=rng.permutation(many) + 1.0,
        utility=np.resize(RESULT.utility, (many, len(RESULT.thresholds))),
        error_rates=dataclasses.replace(rates, **wide),
    )
    plain = write(tmp_path, result)
    page = write(tmp_path, result, images=images, labels=np.arange(many))
    assert len(page) - len(plain) < 500 * 4096
    uris = read_data(page)["thumbnails"]
    without = [place for place, uri in enumerate(uris) if uri is None]
    assert without == np.flatnonzero(result.opis_per_class <= 20).tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"class_names": ["a"]}, ValueError, "`class_names` .*without 100"),
        ({"class_names": "abc"}, TypeError, "`class_names` .*Received: "),
        ({"images": np.zeros((3, 4, 4, 1))}, ValueError, "`images` and `labels` .*"),
        ({"labels": [1, 2]}, ValueError, "`images` and `labels` .*labels alone"),
        (
            {"images": np.zeros((3, 4, 4, 1)), "labels": [1, 2]},
            ValueError,
            "`labels` must have one label per sample, 3",
        ),
        (
            {"images": np.zeros((2, 4, 4, 1), "uint8"), "labels": [100, 101]},
            ValueError,
            "`labels` .*without 1",
        ),
        (
            {"images": np.zeros((30, 4, 4)), "labels": np.arange(100, 130)},
            ValueError,
            "`images` must have shape",
        ),
        (
            {"images": ["none.png"] * 30, "labels": np.arange(100, 130)},
            ValueError,
            "`images` .*none.png",
        ),
    ],
)
def test_wrong_names_and_images(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        numbered().to_html(tmp_path / "report.html", **options)
    assert not list(tmp_path.iterdir())


def test_images_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    images = np.zeros((30, 4, 4, 1), "uint8")
    with pytest.raises(ImportError, match=r"keras-tcm\[viz\]"):
        write(tmp_path, numbered(), images=images, labels=np.arange(100, 130))


def test_the_page_needs_no_matplotlib(tmp_path, monkeypatch):
    for name in "matplotlib", "matplotlib.pyplot", "PIL":
        monkeypatch.setitem(sys.modules, name, None)
    assert read_data(write(tmp_path, numbered(), class_names=["n"] * 130))


# ------------------------------------------------------------------------------ colours


def test_colours_are_those_of_the_figures(tmp_path):
    ((_, style),) = elements(write(tmp_path), "style")
    light, _, rest = style.partition("@media screen and (prefers-color-scheme: dark)")
    dark = rest.partition("@media")[0]
    for part, palette in (light, ON_LIGHT), (dark, ON_DARK):
        for name, color in palette._asdict().items():
            assert f"--{name}: {color};" in part
    # FAR and FRR are what they are in `plot_error_rates`.
    ax = plot_error_rates(RESULT)
    drawn = {line.get_label(): line.get_color() for line in ax.lines}
    matplotlib.pyplot.close(ax.figure)
    for name in "far", "frr":
        (kind,) = re.findall(rf"--{name}: var\(--(\w+)\);", light)
        assert drawn[f"{name.upper()} of all pairs"] == getattr(ON_LIGHT, kind)
        assert f"--{name}:" not in dark
    # And there is no other colour than these and shades of grey.
    named = {*ON_LIGHT, *ON_DARK}
    for color in re.findall(r"#[0-9a-fA-F]{3,8}\b", style):
        channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert color in named or max(channels) - min(channels) <= 24, color


# ---------------------------------------------------------------------------- escaping


def test_hostile_names_are_only_data(tmp_path):
    page = write(tmp_path)
    # Reading fails where a name opens or closes an element.
    assert read_data(page)["classes"] == sorted(NAMES)
    text, _ = scripts(page)
    assert text.isascii()
    assert not set(text) & set("<>&")


@pytest.mark.parametrize("title", [*HOSTILE_NAMES[:8], *HOSTILE_NAMES[9:]])
def test_hostile_titles_are_only_text(tmp_path, title):
    page = write(tmp_path, title=title)
    assert [text for _, text in elements(page, "title")] == [title]
    assert [text for _, text in elements(page, "h1")] == [title]
    # A title adds nothing but itself.
    plain = write(tmp_path, title="Plain")
    for tag in "script", "img", "style", "p":
        assert elements(page, tag) == elements(plain, tag)


def test_a_title_that_utf8_cannot_express(tmp_path):
    page = write(tmp_path, title="from a file name \udcff")
    assert "<title>from a file name &#56575;</title>" in page


def test_hostile_distance_of_a_file(tmp_path):
    result = dataclasses.replace(RESULT, distance="<b onclick=x>&")
    page = write(tmp_path, result)
    assert "<b onclick" not in page
    assert "&lt;b onclick=x&gt;&amp; distance" in page


def test_labels_of_any_kind(tmp_path):
    classes = np.empty(30, dtype=object)
    classes[:] = [(i, "<b>") for i in range(29)] + [True]
    data = read_data(write(tmp_path, dataclasses.replace(RESULT, classes=classes)))
    assert data["classes"][0] == "(0, '<b>')"
    assert data["classes"][29] == "True"
    numbers = dataclasses.replace(RESULT, classes=np.arange(30) - 2**62)
    assert read_data(write(tmp_path, numbers))["classes"][0] == str(-(2**62))


# ---------------------------------------------------------------------- self-contained


def test_page_refers_to_nothing_outside(tmp_path):
    page = write(tmp_path, dataclasses.replace(RESULT, classes=np.arange(30)))
    namespace = '"http://www.w3.org/2000/svg"'
    assert page.count(namespace) == 1
    page = page.replace(namespace, "")
    # Comments aside.
    assert not re.search(r"//(?! )", page)
    assert re.findall(r"""(?:src|href|action|srcset)=["']?([^"'\s>]*)""", page) == [
        "data:,"
    ]
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    for call in "fetch(", "XMLHttpRequest", "WebSocket", "import ", "@import", "eval(":
        assert call not in page
    # How markup of others could come into the page.
    for call in "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write":
        assert call not in page


def test_security_policy_allows_this_script_and_style_only(tmp_path):
    page = write(tmp_path)
    (policy,) = (
        attributes["content"]
        for attributes, _ in elements(page, "meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split() for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    ((_, style),) = elements(page, "style")
    for name, content in ("script-src", scripts(page)[1]), ("style-src", style):
        digest = hashlib.sha256(content.encode()).digest()
        assert rules[name] == f"'sha256-{base64.b64encode(digest).decode()}'"
    # The policy comes before anything that it is about.
    assert page.index("Content-Security-Policy") < page.index("<link")


# -------------------------------------------------------------------------------- file


def test_page_replaces_a_file(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    RESULT.to_html(str(path), title="After")
    assert "<title>After</title>" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.html"):
        RESULT.to_html(tmp_path / "none" / "report.html")
    assert not list(tmp_path.iterdir())


def test_folder_in_the_way(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        RESULT.to_html(tmp_path / "report.html")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("title", [None, 3, b"bytes"])
def test_title_must_be_a_string(tmp_path, title):
    with pytest.raises(TypeError, match=r"`title` must be a string. Received: title="):
        RESULT.to_html(tmp_path / "report.html", title=title)
    assert not list(tmp_path.iterdir())
