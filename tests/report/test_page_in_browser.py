"""The page in a browser: the slider, the charts and the table, against all pairs."""

import dataclasses
import math
import re

import numpy as np
import oracles
import pytest
from pages import HOSTILE_NAMES, LABELS, NAMES, X, evaluate

from keras_tcm.evaluation import ErrorRates

COLUMNS = ["Class", "Samples", "FAR", "FRR", "Utility", "Share of OPIS"]
# Names in the order of the evaluation, which is that of the classes in the page.
ORDER = sorted(NAMES)


@pytest.fixture
def visit(browser, tmp_path):
    """Open the page of an evaluation; no test leaves an error or a request behind."""
    contexts, messages, requests = [], [], []

    def open_page(
        evaluation,
        title="Title",
        width=1200,
        class_names=None,
        images=None,
        labels=None,
        **options,
    ):
        path = tmp_path / "report.html"
        evaluation.to_html(path, title, class_names, images, labels)
        context = browser.new_context(
            viewport={"width": width, "height": 800}, **options
        )
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("dialog", lambda dialog: messages.append(dialog.message))
        page.goto(path.as_uri())
        requests.remove(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == []


@pytest.fixture(scope="module")
def result():
    return evaluate(far_targets=(1e-6, 0.001, 0.01, 0.1))


@pytest.fixture(scope="module")
def distances():
    """Cosine distances of all pairs, of those of each class, by sign."""
    pairs = oracles.all_pairs(X, LABELS)

    def choose(condition):
        return sorted(d for d, a, b in pairs if condition(a, b))

    ends = {
        name: (
            choose(lambda a, b, name=name: (a == name) != (b == name)),
            choose(lambda a, b, name=name: a == b == name),
        )
        for name in ORDER
    }
    return choose(lambda a, b: a != b), choose(lambda a, b: a == b), ends


def move(page, index):
    page.evaluate(
        """index => {
            const slider = document.getElementById("threshold");
            slider.value = index;
            slider.dispatchEvent(new Event("input", {bubbles: true}));
        }""",
        index,
    )


def rate(text):
    assert text.endswith("%")
    return float(text[:-1]) / 100


def shown_rates(page):
    return [rate(page.inner_text(f"#shown-{name}")) for name in ("far", "frr")]


def rows(page):
    """Texts of the cells of all rows, page by page."""
    # An event, because a click would wait for the button to be enabled.
    page.dispatch_event("#first-page", "click")
    found = []
    while True:
        found += page.evaluate(
            """() => Array.from(document.querySelectorAll("#classes tbody tr"))
                .filter(row => !row.hidden)
                .map(row => Array.from(row.cells, cell => cell.textContent))"""
        )
        if page.get_attribute("#next-page", "aria-disabled") == "true":
            return found
        page.click("#next-page")


def names(page):
    return [row[0] for row in rows(page)]


def shown_name(name):
    return name or "(empty name)"


def check_rates(page, threshold, distances, beta=1.0):
    """Compare the figures shown with the shares of all pairs."""
    negatives, positives, ends = distances
    checked = 0

    def compare(shown, accepted, expected_of, digits):
        nonlocal checked
        if oracles.is_decided(accepted, threshold):
            expected = expected_of(oracles.share_within(accepted, threshold))
            assert shown == pytest.approx(expected, abs=0.51 * 10.0**-digits)
            checked += 1

    far, frr = shown_rates(page)
    compare(far, negatives, lambda share: share, 6)
    compare(frr, positives, lambda share: 1 - share, 4)
    found = {row[0]: row[1:] for row in rows(page)}
    assert len(found) == len(ORDER)
    for name in ORDER:
        samples, far, frr, utility, _ = found[shown_name(name)]
        negatives, positives = ends[name]
        assert int(samples) == 6
        compare(rate(far), negatives, lambda share: share, 6)
        compare(rate(frr), positives, lambda share: 1 - share, 4)
        if oracles.is_decided(negatives + positives, threshold):
            expected = oracles.utility(
                oracles.share_within(positives, threshold),
                1 - oracles.share_within(negatives, threshold),
                beta,
            )
            assert float(utility) == pytest.approx(expected, abs=0.51e-4)
    assert checked > 50


# ---------------------------------------------------------------------------- threshold


@pytest.mark.parametrize("position", [0.0, 0.3, 0.77, 1.0])
def test_slider_shows_the_rates_of_the_pairs(visit, result, distances, position):
    page = visit(result)
    thresholds = result.error_rates.thresholds
    index = round(position * (len(thresholds) - 1))
    move(page, index)
    assert page.inner_text("#shown-threshold") == f"{thresholds[index]:.6f}"
    check_rates(page, thresholds[index], distances)


def test_euclidean_distance_and_beta(visit, distances):
    result = evaluate(distance="euclidean", beta=2.0)
    page = visit(result)
    assert "euclidean distance" in page.inner_text(".control label")
    assert "euclidean distance" in page.text_content("#rates-chart")
    move(page, 40)
    threshold = result.error_rates.thresholds[40]
    assert page.inner_text("#shown-threshold") == f"{threshold:.6f}"
    check_rates(page, threshold**2 / 2, distances, beta=2.0)


def test_slider_by_keyboard(visit, result):
    page = visit(result)
    rates = result.error_rates
    start = int(page.input_value("#threshold"))
    last = len(rates.thresholds) - 1
    page.focus("#threshold")
    for key, index in [
        ("ArrowRight", start + 1),
        ("ArrowUp", start + 2),
        ("ArrowLeft", start + 1),
        ("Home", 0),
        ("End", last),
    ]:
        page.keyboard.press(key)
        assert page.input_value("#threshold") == str(index)
        assert shown_rates(page) == pytest.approx(
            [rates.far[index], rates.frr[index]], abs=0.51e-4
        )
        said = page.get_attribute("#threshold", "aria-valuetext")
        assert said == (
            f"{rates.thresholds[index]:.6f}: FAR {rates.far[index]:.4%}, "
            f"FRR {rates.frr[index]:.2%}"
        )
    page.keyboard.press("PageDown")
    assert int(page.input_value("#threshold")) < last - 1


def test_buttons_of_the_operating_points(visit, result):
    page = visit(result)
    buttons = page.locator("#points button")
    assert buttons.all_inner_texts() == ["FAR ≤ 0.1%", "FAR ≤ 1%", "FAR ≤ 10%", "EER"]
    marks = page.eval_on_selector_all("#marks option", "all => all.map(o => o.value)")
    assert len(marks) == 4
    # The page opens with the middle one.
    for number in (1, 0, 2):
        point = result.operating_points[number + 1]
        if number != 1:
            buttons.nth(number).focus()
            page.keyboard.press("Enter")
        pressed = [button.get_attribute("aria-pressed") for button in buttons.all()]
        assert pressed == [str(i == number).lower() for i in range(4)]
        assert page.input_value("#threshold") == marks[number]
        assert page.inner_text("#shown-threshold") == f"{point.threshold:.6f}"
        assert page.inner_text("#shown-far") == f"{point.far:.4%}"
        assert page.inner_text("#shown-frr") == f"{point.frr:.2%}"
        found = {row[0]: row for row in rows(page)}
        for name, far, frr in zip(
            ORDER, point.per_class_far, point.per_class_frr, strict=True
        ):
            _, _, shown_far, shown_frr, _, _ = found[shown_name(name)]
            assert rate(shown_far) == pytest.approx(far, abs=0.51e-6)
            assert rate(shown_frr) == pytest.approx(frr, abs=0.51e-4)
    page.focus("#threshold")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#points [aria-pressed=true]").count() == 0
    buttons.nth(3).click()
    assert page.input_value("#threshold") == marks[3]
    assert np.mean(shown_rates(page)) == pytest.approx(result.eer, abs=1e-4)


# ------------------------------------------------------------------------------- charts


def coordinates(page, selector):
    text = page.get_attribute(selector, "d") or ""
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    return text, np.array(numbers)


def box_on_screen(page, selector):
    chart = page.locator(selector)
    # Not to the top, where the slider stays.
    chart.evaluate("chart => chart.scrollIntoView({block: 'center'})")
    return chart.bounding_box()


def test_charts_follow_the_slider(visit, result):
    page = visit(result)
    rates = result.error_rates
    before = coordinates(page, "#classes-chart .dots")[0]
    for index in (5, 90):
        move(page, index)
        _, cursor = coordinates(page, "#rates-chart .cursor")
        for name in ("far", "frr"):
            _, line = coordinates(page, f"#rates-chart .{name}:not(.mark)")
            line = line.reshape(-1, 2)
            assert len(line) == len(rates.thresholds)
            _, mark = coordinates(page, f"#rates-chart .{name}.mark")
            assert tuple(mark[:2]) == tuple(line[index])
            assert mark[0] == cursor[0]
            # The bottom and the top of the chart, and rates between by their cube root.
            curve = getattr(rates, name)
            height = np.cbrt(curve)
            expected = np.interp(height, [0, 1], [258, 10])
            np.testing.assert_allclose(line[:, 1], expected, atol=0.06)
        after = coordinates(page, "#classes-chart .dots")[0]
        assert after != before
        before = after
    dots = {
        (round(50 + 352 * math.cbrt(far)), round(258 - 248 * math.cbrt(frr)))
        for far, frr in zip(
            rates.per_class_far[:, 90], rates.per_class_frr[:, 90], strict=True
        )
    }
    assert before.count("M") == pytest.approx(len(dots), abs=2)


def test_click_into_the_chart_moves_the_threshold(visit, result):
    page = visit(result)
    box = box_on_screen(page, "#rates-chart")
    thresholds = result.error_rates.thresholds
    for share in (0.25, 0.9):
        x = box["x"] + box["width"] * (50 + 352 * share) / 420
        page.mouse.click(x, box["y"] + box["height"] / 2)
        wanted = thresholds[0] + share * (thresholds[-1] - thresholds[0])
        expected = np.argmin(np.abs(thresholds - wanted))
        assert int(page.input_value("#threshold")) == pytest.approx(expected, abs=1)


def test_clicks_near_a_mark_are_meant_for_it(visit, result):
    page = visit(result)
    box = box_on_screen(page, "#rates-chart")
    thresholds = result.error_rates.thresholds
    scale = box["width"] / 420
    # Several thresholds lie between.
    point = result.operating_points[2].threshold
    share = (point - thresholds[0]) / (thresholds[-1] - thresholds[0])
    for offset in (-3, 3):
        x = box["x"] + scale * (50 + 352 * share + offset)
        page.mouse.click(x, box["y"] + box["height"] / 2)
        assert page.inner_text("#shown-threshold") == f"{point:.6f}"
    _, marks = coordinates(page, "#rates-chart .point")
    # Dots of two rates of each of three thresholds, and of one where they are equal; a
    # step of length 0 ends each.
    assert len(marks.reshape(-1, 3)) == 7


def test_a_class_is_followed_from_the_table_and_from_the_chart(visit, result):
    page = visit(result)
    assert page.inner_text("#selected").strip() == "No class chosen"
    first = page.locator("#classes tbody .name").first
    name = first.inner_text()
    first.focus()
    page.keyboard.press("Enter")
    assert first.get_attribute("aria-pressed") == "true"
    assert page.inner_text("#selected-name") == name
    i = [shown_name(label) for label in ORDER].index(name)
    rates = result.error_rates
    curves = page.locator("#rates-chart .selected-curve")
    for curve, expected in zip(
        curves.all(), (rates.per_class_far[i], rates.per_class_frr[i]), strict=True
    ):
        numbers = re.findall(r"[\d.]+", curve.get_attribute("d"))
        ys = np.array(numbers[1::2], float)
        np.testing.assert_allclose(ys, 258 - 248 * np.cbrt(expected), atol=0.06)
    index = int(page.input_value("#threshold"))
    assert f"FRR {rates.per_class_frr[i, index]:.2%}" in page.inner_text("#selected")

    page.click("#deselect")
    assert first.get_attribute("aria-pressed") == "false"
    assert page.inner_text("#selected").strip() == "No class chosen"
    # Its dot, found again with the mouse.
    box = box_on_screen(page, "#classes-chart")
    scale = box["width"] / 420
    x = box["x"] + scale * (50 + 352 * np.cbrt(rates.per_class_far[i, index]))
    y = box["y"] + scale * (258 - 248 * np.cbrt(rates.per_class_frr[i, index]))
    page.mouse.move(float(x), float(y))
    assert page.inner_text("#selected-name") == name
    page.mouse.click(float(x), float(y))
    page.mouse.move(0, 0)
    assert page.inner_text("#selected-name") == name
    assert first.get_attribute("aria-pressed") == "true"


# -------------------------------------------------------------------------------- table


def sort_states(page):
    headers = page.locator("#classes thead th").all()
    return [header.get_attribute("aria-sort") for header in headers]


@pytest.mark.parametrize("column", range(6), ids=COLUMNS)
def test_sorting(visit, result, column):
    counts = np.arange(30) % 7 + 2
    page = visit(dataclasses.replace(result, class_counts=counts))
    assert page.locator("#classes thead th").all_inner_texts() == COLUMNS
    index = int(page.input_value("#threshold"))
    rates = result.error_rates
    values = [
        np.arange(30),
        counts,
        rates.per_class_far[:, index],
        rates.per_class_frr[:, index],
        rates.utility(result.beta)[:, index],
        result.opis_per_class,
    ][column]
    # First of all the worst; the table opens with the lowest utility.
    first = "ascending" if column in (0, 4) else "descending"
    second = "descending" if first == "ascending" else "ascending"
    if column == 4:
        first, second = second, first
    for direction in first, second, first:
        page.locator("#classes thead button").nth(column).focus()
        page.keyboard.press("Enter")
        states = ["none"] * 6
        states[column] = direction
        assert sort_states(page) == states
        sign = 1 if direction == "ascending" else -1
        # Ties stay in the order of the classes.
        order = np.argsort(sign * values, kind="stable")
        assert names(page) == [shown_name(ORDER[i]) for i in order]


def test_order_follows_the_slider(visit, result):
    page = visit(result)
    assert sort_states(page)[4] == "ascending"
    for index in (0, len(result.error_rates.thresholds) - 1):
        move(page, index)
        utility = result.error_rates.utility(1.0)[:, index]
        order = np.argsort(utility, kind="stable")
        assert names(page) == [shown_name(ORDER[i]) for i in order]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class 1", ["class 1", *(f"class {i}" for i in range(10, 17))]),
        ("CLASS 16", ["class 16"]),
        ("<img", [HOSTILE_NAMES[1]]),
        ("</SCRIPT>", [HOSTILE_NAMES[0]]),
        (".*", [".*"]),
        ("'single'", [HOSTILE_NAMES[3]]),
        ("\\u003c \\", [HOSTILE_NAMES[6]]),
        ("\u2028", [HOSTILE_NAMES[4]]),
        ("é str", ["É Straße ＡＢＣ"]),
        ("e\u0301 STRASSE", ["É Straße ＡＢＣ"]),
        ("E stra", ["É Straße ＡＢＣ"]),
        ("abc", ["É Straße ＡＢＣ"]),
        ("$title", [HOSTILE_NAMES[6]]),
        ("x" * 5000, [HOSTILE_NAMES[-1]]),
        ("no such class", []),
        ("", ORDER),
    ],
)
def test_search(visit, result, text, expected):
    page = visit(result)
    page.click("#next-page")
    page.fill("#search", text)
    assert set(names(page)) == {shown_name(name) for name in expected}
    count = "30 classes" if expected == ORDER else f"{len(expected)} of 30 classes"
    assert page.inner_text("#found") == count
    assert page.get_attribute("#found", "role") == "status"


def test_pages(visit, result):
    page = visit(result)
    shown = page.locator("#page-shown")
    for button, expected in [
        ("first-page", "1 to 25 of 30"),
        ("previous-page", "1 to 25 of 30"),
        ("next-page", "26 to 30 of 30"),
        ("next-page", "26 to 30 of 30"),
        ("first-page", "1 to 25 of 30"),
        ("last-page", "26 to 30 of 30"),
        ("previous-page", "1 to 25 of 30"),
    ]:
        # Also where it is disabled: then it does nothing.
        page.locator(f"#{button}").dispatch_event("click")
        assert shown.inner_text() == expected
    page.fill("#search", "no such class")
    assert shown.inner_text() == "none"
    assert page.get_attribute("#next-page", "aria-disabled") == "true"


# --------------------------------------------------------------------- hostile names


def test_hostile_names_are_shown_as_text(visit, result):
    title = "".join(HOSTILE_NAMES[:8])
    page = visit(result, title=title)
    assert sorted(names(page)) == sorted(map(shown_name, NAMES))
    assert page.text_content("h1") == title
    # Browsers join the lines of a title, at the white space of ASCII.
    assert page.title() == re.sub(r"[ \t\n]+", " ", title)
    assert page.locator("img[src]").count() == 0
    assert page.locator("script").count() == 2
    for name in filter(None, HOSTILE_NAMES):
        # Nobody can type half of a surrogate pair.
        page.fill("#search", name.partition("\ud800")[0])
        page.locator("#classes tbody .name").first.click()
        assert page.text_content("#selected-name") == shown_name(name)
        page.click("#deselect")


# ------------------------------------------------------------------- names and images


SPELLINGS = {
    "Zoë": ["zoe", "ZOE", "Zoe\u0308", "zoë"],
    "Straße 5": ["STRASSE", "strasse", "straße", "STRAẞE"],
    "İstanbul ışık": ["istanbul", "ISIK", "ıSTANBUL", "İSTANBUL IŞIK"],
    "Ærøskøbing": ["aeroskobing", "ÆRØ"],
    "Łódź": ["lodz", "ŁÓDŹ"],
    "Ὀδυσσεύς": ["οδυσσευσ", "ΟΔΥΣΣΕΥΣ"],
    "ﬁne": ["FINE", "ﬁ"],
    "ёлка": ["елка", "ЁЛКА"],
    "が": ["か", "か\u3099"],
    "हिन्दी": ["हिन्दी"],
}


def test_search_knows_neither_case_nor_accents(visit, result):
    known = [*SPELLINGS, "हन", "other"]
    labels = [*known, *(f"x{i}" for i in range(30 - len(known)))]
    result = dataclasses.replace(result, classes=np.arange(30))
    page = visit(result, class_names=labels)
    for name, spellings in SPELLINGS.items():
        for text in spellings:
            page.fill("#search", text)
            # Beside each name stands its label.
            assert names(page) == [f"{name}{labels.index(name)}"], text
    # Vowels are no accents.
    page.fill("#search", "हन")
    assert names(page) == [f"हन{labels.index('हन')}"]
    # Lone marks, and what is none, do no harm.
    for text in "\u0301", "\u0307\u0307", "\ud83d", "ı̇":
        page.fill("#search", text)
        rows(page)


def test_names_beside_their_labels_and_images(visit, result):
    labels = np.arange(30) + 500
    images = np.zeros((30, 8, 8, 3), "uint8")
    images[:, :, :, 0] = 8 * np.arange(30)[:, None, None]
    page = visit(
        dataclasses.replace(result, classes=labels),
        class_names={500 + i: name for i, name in enumerate(NAMES)},
        images=images,
        labels=labels,
    )
    assert {name for name in names(page) if name} == {
        f"{shown_name(name)}{500 + i}" for i, name in enumerate(NAMES)
    }
    for i in (20, 29):
        page.fill("#search", str(500 + i))
        assert page.locator("#classes tbody .name").first.inner_text() == NAMES[i]
        picture = page.locator("#classes tbody img").first
        # The browser can read it.
        assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") == 8
        assert picture.bounding_box()["width"] == 32
        uri = picture.get_attribute("src")
        page.locator("#classes tbody .name").first.click()
        assert page.get_attribute("#selected-image", "src") == uri
        assert page.is_visible("#selected-image")
        page.click("#deselect")
        assert not page.is_visible("#selected-image")
    page.fill("#search", NAMES[5][:4])
    assert f"{shown_name(NAMES[5])}505" in names(page)


# ---------------------------------------------------------------------- many classes


def many_classes(result, num_classes=10_000, num_thresholds=150):
    rng = np.random.default_rng(0)
    thresholds = np.linspace(0.3, 0.6, num_thresholds)
    far = np.geomspace(0.001, 0.1, num_thresholds)
    frr = np.linspace(0.6, 0.05, num_thresholds)
    factors = rng.lognormal(0, 0.7, (2, num_classes, 1))
    per_class = np.clip(factors * np.stack([far, frr])[:, None], 0, 1)
    rates = ErrorRates(thresholds, far, frr, *per_class.astype("float32"))
    utility = rates.utility(1.0)
    return dataclasses.replace(
        result,
        error_rates=rates,
        thresholds=thresholds,
        utility=utility,
        opis_per_class=utility.var(axis=1),
        classes=np.array([f"species {i}" for i in range(num_classes)]),
        class_counts=rng.integers(2, 90, num_classes),
        operating_points=(),
    )


def test_ten_thousand_classes(visit, result):
    many = many_classes(result)
    page = visit(many)
    rates = many.error_rates
    # Neither operating points nor, within these rates, the EER.
    assert page.locator("#points button").count() == 0
    assert page.inner_text("#found") == "10,000 classes"
    for index in (0, 149, 20):
        move(page, index)
        worst = np.argsort(rates.utility(1.0)[:, index], kind="stable")[:25]
        shown = page.locator("#classes tbody th").all_inner_texts()
        assert shown == [f"species {i}" for i in worst]
        frr = page.locator("#classes tbody tr td:nth-child(4)").all_inner_texts()
        assert [rate(text) for text in frr] == pytest.approx(
            rates.per_class_frr[worst, index].tolist(), abs=0.51e-4
        )
    page.click("#last-page")
    assert page.inner_text("#page-shown") == "9,976 to 10,000 of 10,000"
    page.fill("#search", "999")
    assert page.inner_text("#found") == "19 of 10,000 classes"
    assert set(names(page)) == {
        f"species {i}" for i in range(10_000) if "999" in str(i)
    }


# ------------------------------------------------------------------------ appearance


def luminance(color):
    channels = np.array(color) / 255
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def color(page, name):
    value = page.evaluate(
        "name => getComputedStyle(document.documentElement).getPropertyValue(name)",
        f"--{name}",
    ).strip()
    return [int(value[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colors_are_legible(visit, result, scheme):
    page = visit(result, color_scheme=scheme)
    background = color(page, "page")
    shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [int(n) for n in re.findall(r"\d+", shown)] == background
    assert (luminance(background) > 0.5) == (scheme == "light")
    for behind in "page", "panel":
        # What WCAG 2 asks of text, and of large text and lines.
        for name in "text", "quiet", "accent", "chosen":
            assert contrast(color(page, name), color(page, behind)) >= 4.5, name
        for name in "far", "frr":
            assert contrast(color(page, name), color(page, behind)) >= 3, name


def test_printing_is_light_and_without_controls(visit, result):
    page = visit(result, color_scheme="dark")
    page.emulate_media(media="print")
    assert luminance(color(page, "page")) > 0.9
    for hidden in "#threshold", "#search", "#next-page", "#points":
        assert not page.is_visible(hidden)
    for shown in "#shown-far", "#rates-chart", "#classes", "#page-shown":
        assert page.is_visible(shown)


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("max_pairs", [None, 8000])
def test_narrow_screens_do_not_scroll_sideways(visit, result, width, max_pairs):
    if max_pairs is not None:
        result = evaluate(max_pairs=max_pairs)
    page = visit(result, title="t" * 3000, width=width)
    page.fill("#search", "long xxx")
    page.locator("#classes tbody .name").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Nor does a table on its own.
    for region in page.locator(".scroll").all():
        assert region.evaluate("node => node.scrollWidth - node.clientWidth") <= 0
    page.fill("#search", "")
    # The columns of the table are in their places and apart.
    for row in page.locator("#classes tr").all()[:4]:
        boxes = row.evaluate(
            """row => Array.from(row.cells).slice(1).map(cell => {
                const range = document.createRange();
                range.selectNodeContents(cell);
                const {left, right} = range.getBoundingClientRect();
                return [left, right];
            })"""
        )
        edges = np.array(boxes).ravel()
        assert (np.diff(edges) >= 0).all()
        assert edges[0] >= 0
        assert edges[-1] <= width
    assert page.locator("#rates-chart").bounding_box()["width"] > 0.8 * min(width, 400)


@pytest.mark.parametrize(("width", "height"), [(390, 800), (1280, 720)])
def test_the_threshold_comes_first(visit, result, width, height):
    """The slider and what it says are on the first screen; charts and cards follow."""
    page = visit(result, width=width)
    ids = ("threshold", "shown-frr", "rates-chart", "summary-heading", "search")
    tops = {name: page.locator(f"#{name}").bounding_box()["y"] for name in ids}
    assert tops["shown-frr"] < height - 250
    assert tops["threshold"] < tops["rates-chart"] < tops["summary-heading"]
    assert tops["summary-heading"] < tops["search"]


def test_controls_have_names(visit, result):
    page = visit(result)
    unnamed = page.evaluate(
        """() => Array.from(document.querySelectorAll("button, input, [role], svg"))
            .filter(node => node.checkVisibility())
            .filter(node => !(node.labels?.length || node.getAttribute("aria-label")
                || document.getElementById(node.getAttribute("aria-labelledby"))
                    ?.textContent.trim() || node.textContent.trim()))
            .map(node => node.outerHTML)"""
    )
    assert unnamed == []
