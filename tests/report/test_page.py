"""The page as a file: its numbers, what it escapes, and that it needs nothing else."""

import base64
import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
from pages import HOSTILE_NAMES, LABELS, NAMES, X, elements, evaluate

from keras_tcm import Evaluation, evaluate_embeddings

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


def test_buttons_are_the_resolved_operating_points(tmp_path):
    result = evaluate(far_targets=(1e-6, 0.005, 0.2, 1.0))
    data = read_data(write(tmp_path, result))
    assert [point["name"] for point in data["points"]] == ["FAR ≤ 0.5%", "FAR ≤ 20%"]
    for shown, point in zip(data["points"], result.operating_points[1:3], strict=True):
        assert data["rates"]["thresholds"][shown["index"]] == point.threshold
        assert data["rates"]["far"][shown["index"]] == point.far


@pytest.mark.parametrize("max_pairs", [None, 8000])
def test_summary_says_what_the_evaluation_does(tmp_path, max_pairs):
    result = evaluate(max_pairs=max_pairs, far_targets=(1e-6, 0.01, 0.1))
    page = write(tmp_path, result)
    (_, measures), _ = elements(page, "dl")[:2]
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
        (shown,) = re.findall(r"[01]\.\d{6}", row)
        assert (negatives <= float(shown)).mean() == pytest.approx(point.far, abs=1e-12)


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


def test_page_of_an_earlier_file(tmp_path):
    values = RESULT.to_dict()
    del values["error_rates"]
    result = Evaluation.from_dict(values)
    data = read_data(write(tmp_path, result))
    assert data["rates"] is None
    assert data["points"] is None
    curves = data["utility_curves"]
    assert curves["thresholds"] == result.thresholds.tolist()
    np.testing.assert_allclose(curves["mean"], result.utility.mean(axis=0))


def test_page_of_a_saved_evaluation_has_the_same_rates(tmp_path):
    RESULT.save(tmp_path / "result.json")
    saved = read_data(write(tmp_path, Evaluation.load(tmp_path / "result.json")))
    data = read_data(write(tmp_path))
    for name in "classes", "samples", "rates", "points":
        assert saved[name] == data[name]


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
