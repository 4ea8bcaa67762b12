"""The report of a study: what it says, and that it is a page of its own."""

import html.parser
import io
import pathlib
import re
import sys

import markdown_it
import matplotlib
import numpy as np
import pytest
from PIL import Image
from study_runs import AUTO, TCM, measures, pair, run, whole_study, write_runs

matplotlib.use("Agg")

from keras_tcm.study.estimate import Estimate
from keras_tcm.study.report import show, write_study_report
from keras_tcm.study.report.document import (
    bullets,
    document,
    figure,
    heading,
    lines,
    paragraph,
    plain,
    table,
    to_html,
    toned,
    without_tones,
)
from keras_tcm.study.report.measure import OPIS, RECALL
from keras_tcm.study.report.trade_off import mean_change, plot_trade_off
from keras_tcm.study.run_record import read_runs
from keras_tcm.study.summary import summarize

ROOT = pathlib.Path(__file__).parents[2]
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Collects what a browser would see, and fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.attributes, self.tables = [], []
        self.tones = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID:
            self.open.append((tag, dict(attributes).get("class")))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "br":
            self.tables[-1][-1][-1] += "\n"

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = {tag for tag, _ in self.open}
        if "style" not in inside:
            self.text.append(data)
        if inside & {"td", "th"}:
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1][0] == "span":
            self.tones[data] = self.open[-1][1]


def markdown_tables(text):
    """Rows of cells of each table."""
    tables = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        assert len({len(row) for row in rows}) == 1
        assert set("".join(rows[1])) <= set("-:")
        tables.append([rows[0], *rows[2:]])
    return tables


def check_image(path):
    """A PNG that shows something."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        colors = image.convert("RGB").getcolors(2**24)
    counts = np.array([number for number, _ in colors])
    assert len(counts) > 20
    assert counts.max() < 0.98 * counts.sum()


def report(folder, runs):
    """Markdown and parsed HTML of the report of some runs."""
    write_runs(folder, runs)
    write_study_report(folder, folder / "out")
    text = (folder / "out" / "study.md").read_text(encoding="utf-8")
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    return text, Page(page)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder, Markdown and page of a study with all parts."""
    folder = tmp_path_factory.mktemp("study")
    return folder, *report(folder, whole_study())


# -------------------------------------------------------------------------- whole study


def test_files(whole):
    folder, _, _ = whole
    out = folder / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "images",
        "study.html",
        "study.md",
    ]
    figures = sorted((out / "images").iterdir())
    assert [path.name for path in figures] == [
        "study_consistency.png",
        "study_trade_off.png",
        "study_utility.png",
    ]
    for path in figures:
        check_image(path)


def test_page_needs_nothing_else(whole):
    _, _, page = whole
    assert page.tags.count("img") == 3
    for _, name, value in page.attributes:
        known = {"class", "src", "alt", "lang", "charset", "name", "content", "style"}
        assert name in known
        if name == "style":
            assert value == "text-align:right"
        if name == "src":
            assert value.startswith("data:image/png;base64,")
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_markdown_links_the_figures(whole):
    folder, text, _ = whole
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(linked) == 3
    assert all((folder / "out" / name).exists() for name in linked)


def test_both_forms_have_the_same_tables(whole):
    _, text, page = whole
    tables = [
        [
            [cell.replace("<br>", "\n").replace("\\*", "*") for cell in row]
            for row in rows
        ]
        for rows in markdown_tables(text)
    ]
    assert tables == [
        [[cell.strip() for cell in row] for row in rows] for rows in page.tables
    ]


def test_main_tables_have_a_row_for_each_comparison(whole):
    _, text, _ = whole
    titles = re.findall(r"^### (.*)$", text, flags=re.MULTILINE)[:3]
    assert titles == [
        "OPIS (10⁻³), lower is better",
        "10%-OPIS (10⁻³), lower is better",
        "R@1 (%), higher is better",
    ]
    for header, *rows in markdown_tables(text)[:3]:
        assert header == ["comparison", "without → with TCM", "change"]
        assert rows[0][0] == "codes, resnet_small, multi_similarity"
        assert len({name for name, _, _ in rows}) == 8
        for _, values, change in rows:
            before, after = map(float, values.split(" → "))
            sign = 1 if after > before else -1
            assert float(change.split()[1].rstrip("%")) * sign > 0
            assert change[0] == ("↑" if sign > 0 else "↓")


def test_colours_tell_better_from_worse(whole):
    _, _, page = whole
    for rows, better in zip(page.tables[:3], "↓↓↑", strict=True):
        for _, _, change in rows[1:]:
            expected = "better" if change[0] == better else "worse"
            assert page.tones[change] == expected


def test_settings_and_completeness(whole):
    _, text, _ = whole
    settings = markdown_tables(text)[4]
    assert settings[1] == [
        "codes, resnet_small, multi_similarity",
        *("0.3 \\* TCM(0.7, 0.4)", "1000, 128", "0, 1, 2"),
    ]
    for line in (
        "- learning_rate: 0.002",
        "- backend: tensorflow",
        "- versions: keras_tcm 0.1.0, keras 3.15.1, python 3.11.9",
        "- machine: x86_64, 1 threads",
        "- A training takes 72.0 s with TCM and 70.0 s without TCM, on average;",
        "Every combination",
    ):
        assert line in text


def test_trade_off_table(whole):
    folder, text, _ = whole
    header, *rows = markdown_tables(text)[5]
    assert header[1:] == ["weight 0.1", "weight 0.3", "weight 1"]
    comparisons = summarize(read_runs(folder), "tuning").comparisons
    chosen = [
        one
        for one in comparisons
        if one.setting.loss == "smooth_ap" and one.weight == 0.3
    ]
    recall, opis = (
        np.mean([one.changes[name].change.value for one in chosen])
        for name in ("recall_at_1", "opis")
    )
    (mean,) = (row for row in rows if row[0] == "smooth_ap, mean")
    assert mean[2] == f"{100 * recall:+.2f}<br>{np.expm1(opis):+.1%}"
    assert len(rows) == 2 * (4 + 1)


def form(text):
    """A report with a placeholder for whatever depends on the runs."""
    # Lines of a table, items of a list, and the settings that a run happens to have.
    text = re.sub(r"(?m)^\| [a-z].*, .*\|\n", "", text)
    text = re.sub(r"(?m)^- [a-z_]+: .*\n", "", text)
    # The page was written before this was counted.
    text = re.sub(r"; margins and weights came from .*(?=\.\n)", "", text)
    text = re.sub(r"comparisons: \w+, .*(?=\.\n)", "comparisons", text)
    text = re.sub(r"\w+, \w+, \w+, \w+(?=, seed)", "NAME", text)
    # Arrows and stars go with the numbers.
    text = re.sub(r"[↑↓→] (?=[+-])|(?<=\]) \\\*", "", text)
    return re.sub(r"[+-]?\d+(?:\.\d+)?", "N", text)


def test_the_page_of_the_documentation_is_of_this_form(whole):
    """Written by an earlier version, it has been edited where this one differs."""
    _, text, _ = whole
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    assert form(page).splitlines() == form(text).splitlines()


def test_the_page_of_the_documentation_agrees_with_itself():
    """What it says that it found is what its tables hold."""
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    tables = markdown_tables(page)
    for line, rows, better in zip(
        re.findall(r"(?m)^- \S*(?:OPIS|R@1),.*$", page), tables[:3], "↓↓↑", strict=True
    ):
        changes = [change for _, _, change in rows[1:]]
        number = sum(change[0] == better for change in changes)
        assert f"in {number} of {len(changes)} comparisons" in line
        values = [float(change.split()[1].rstrip("%")) for change in changes]
        if better == "↑":
            mean = np.mean(values)
        else:
            mean = 100 * np.expm1(np.log1p(np.array(values) / 100).mean())
        (found,) = re.findall(r"comparisons: (\S+?)%? ", line)
        # Of rounded values.
        assert float(found) == pytest.approx(mean, abs=0.06)


def test_what_is_said_of_auto_tcm_is_what_the_study_found():
    """On its page, above the tables of the report, and in the README."""
    page, readme = (
        (ROOT / path).read_text(encoding="utf-8")
        for path in ("docs/auto_tcm.md", "README.md")
    )
    head, section = page.split("## Three seeds of the study\n")
    opis, recall, counts = markdown_tables(section.split("\n## ")[0])
    relative, points = (
        np.array([float(row[2].split()[1].rstrip("%")) for row in rows[1:]])
        for rows in (opis, recall)
    )
    mean = 100 * np.expm1(np.log1p(relative / 100).mean())
    of_opis, _, of_recall = ([row[1], row[3]] for row in counts[1:])
    for (count, change), number, average in (
        (of_opis, (relative < 0).sum(), mean),
        (of_recall, (points > 0).sum(), points.mean()),
    ):
        assert count.startswith(f"{number} of {len(opis) - 1}<br>")
        # Of rounded values.
        assert float(change.split()[1].rstrip("%")) == pytest.approx(average, abs=0.06)
    said = " ".join(head.split())
    for words in (
        f"OPIS is {-mean:.1f}% lower with `AutoTCM`",
        f"R@1 {points.mean():.2f} points higher",
        f"lower in all sixteen, by {-relative.max():.1f}% at least",
        "lower by more than 0.25 points in one: symbols, vit_tiny, smooth_ap",
    ):
        assert words in said
    assert (relative < 0).all()
    assert (points < -0.25).sum() == 1
    rows = {row[0]: row[1] for rows in markdown_tables(readme) for row in rows}
    for name, (_, change), form in (
        ("OPIS (lower is better)", of_opis, "{:+.0f}% [{:+.0f}%, {:+.0f}%]"),
        ("R@1 (higher is better)", of_recall, "{:+.1f} points [{:+.1f}, {:+.1f}]"),
    ):
        numbers = map(float, re.findall(r"[+-][\d.]+", change))
        assert rows[name] == form.format(*numbers)


@pytest.fixture(scope="module")
def three_arms(tmp_path_factory):
    """Folder, Markdown and page of a study with both arms."""
    folder = tmp_path_factory.mktemp("arms")
    runs = whole_study(datasets=("glyphs",), seeds=(0, 1), arms=(TCM, AUTO))
    return folder, *report(folder, runs)


def test_each_arm_has_its_columns_and_its_findings(three_arms):
    _, text, _ = three_arms
    arms = "AutoTCM", "TCM"
    for header, *rows in markdown_tables(text)[:3]:
        assert header[1::2] == [f"without → with {arm}" for arm in arms]
        assert [row[0] for row in rows[:2]] == [
            f"glyphs, resnet_small, {loss}"
            for loss in ("multi_similarity", "smooth_ap")
        ]
        assert len(rows) == 4
        for _, *cells in rows:
            without, with_tcm = zip(*(x.split(" → ") for x in cells[::2]), strict=True)
            assert len(set(without)) == 1
            assert len(set(with_tcm)) == 2
    _, *counts = markdown_tables(text)[3]
    assert [row[0] for row in counts[:2]] == ["OPIS, AutoTCM", "OPIS, TCM"]
    # Each counts its own.
    _, *rows = markdown_tables(text)[0]
    for column, (arm, count) in enumerate(zip(arms, counts, strict=False)):
        lower = sum("↓" in row[2 + 2 * column] for row in rows)
        assert count[1].startswith(f"{lower} of 4")
        _, found = text.split(f"\nWith {arm}:\n\n")
        assert f"is lower (better) with {arm} in {lower} of 4 comparisons" in found
    assert text.splitlines()[2] == (
        "Models without TCM are compared with models with AutoTCM (which sets its own "
        "margins and weight) and TCM (with margins and a weight given for each "
        "comparison)."
    )


def test_settings_and_hours_of_each_arm(three_arms):
    _, text, _ = three_arms
    header, row, *_ = markdown_tables(text)[4]
    assert header == ["comparison", "AutoTCM", "TCM", "steps, batch size", "seeds"]
    assert row[1:3] == ["AutoTCM(strength=0.5)", "0.3 \\* TCM(0.7, 0.4)"]
    # Eight models of 72 s; and four networks and losses, each tuned by one run of 70 s
    # and three of 72 s.
    for arm, before in (
        ("AutoTCM", "no training chose margins and a weight before"),
        (
            "TCM",
            "margins and weights came from 16 trainings before, which took 0.32 hours, "
            "all those with TCM 0.16 hours",
        ),
    ):
        assert (
            f"- A training takes 72.0 s with {arm} and 70.0 s without TCM, on average; "
            f"{before}.\n"
        ) in text


def test_each_arm_has_its_figures(three_arms):
    folder, text, _ = three_arms
    figures = sorted((folder / "out" / "images").iterdir())
    assert [path.name for path in figures] == [
        "study_consistency_1.png",
        "study_consistency_2.png",
        "study_trade_off.png",
        "study_utility_1.png",
        "study_utility_2.png",
    ]
    for path in figures:
        check_image(path)
        assert f"(images/{path.name})" in text
    for arm in "AutoTCM", "TCM":
        assert re.search(rf"\n\w+, \w+, \w+, {arm}, seed 0: the comparison with", text)


def test_representative_comparison_is_named(whole):
    _, text, _ = whole
    assert re.search(
        r"\n\w+, \w+, \w+, TCM, seed 0: the comparison with the median relative "
        "change of OPIS",
        text,
    )


# ------------------------------------------------------------------------ small studies


def test_cells_by_hand(tmp_path):
    runs = pair(measures(0.80, 0.004, 0.05), measures(0.82, 0.002, 0.1), seed=0)
    runs += pair(measures(0.70, 0.008, 0.05), measures(0.76, 0.002, 0.1), seed=1)
    text, page = report(tmp_path, runs)
    # t = 12.7062 with one degree of freedom, differences 2 and 6: 4 -+ 12.7062 * 2.
    # Log ratios log(1/2) and log(1/4): -1.0397 -+ 12.7062 * 0.34657.
    rows = [rows[1] for rows in markdown_tables(text)[:3]]
    assert rows == [
        [
            "glyphs, resnet_small, smooth_ap",
            "5.657 → 2.000",
            "↓ -64.6% [-99.6%, +2790.2%]",
        ],
        [
            "glyphs, resnet_small, smooth_ap",
            "50.00 → 100.00",
            "↑ +100.0% [+100.0%, +100.0%] \\*",
        ],
        [
            "glyphs, resnet_small, smooth_ap",
            "75.00 → 79.00",
            "↑ +4.00 [-21.41, +29.41]",
        ],
    ]
    assert page.tones["↑ +4.00 [-21.41, +29.41]"] == "better"
    assert page.tones["↑ +100.0% [+100.0%, +100.0%] *"] == "worse"


def test_counts_by_hand(tmp_path):
    runs = []
    for number, (recall, opis) in enumerate([(0.81, 0.5), (0.796, 0.5), (0.79, 2.0)]):
        runs += pair(
            measures(0.8, 0.004), measures(recall, 0.004 * opis), dataset=f"d{number}"
        )
    text, _ = report(tmp_path, runs)
    opis, worst, recall = markdown_tables(text)[3][1:]
    assert recall[:3] == ["R@1, TCM", "1 of 3", "2 of 3"]
    assert opis[:3] == ["OPIS, TCM", "2 of 3", "1 of 3"]
    assert worst[:3] == ["10%-OPIS, TCM", "0 of 3", "0 of 3"]
    # Mean of log(1/2), log(1/2) and log 2: -0.2310 -+ 4.3027 * 0.4621, by t with two
    # degrees of freedom; of 1, -0.4 and -1: -0.1333 -+ 4.3027 * 0.5925.
    assert opis[3].startswith(f"↓ {100 * (2 ** (-1 / 3) - 1):+.1f}% [")
    # What was found comes first.
    _, *found = text.splitlines()[:8]
    assert found == [
        "",
        "Models without TCM are compared with models with TCM (with margins and a "
        "weight given for each comparison).",
        "",
        "- OPIS, how far apart the classes lie at one threshold, is lower (better) "
        "with TCM in 2 of 3 comparisons: -20.6% on average, with a 95% interval from "
        "-89.1% to +479.6%; worse in d2, resnet_small, smooth_ap (+100.0%).",
        "- 10%-OPIS, how far the worst of them fall behind, is lower (better) with TCM "
        "in 0 of 3 comparisons: +0.0% on average, with a 95% interval from +0.0% to "
        "+0.0%.",
        "- R@1, how often the nearest neighbour is of the same class, is higher "
        "(better) with TCM in 1 of 3 comparisons: -0.13 points on average, with a 95% "
        "interval from -2.68 points to +2.42 points.",
        "- R@1 is worse by more than 0.5 points with TCM in 1 of 3 comparisons: d2, "
        "resnet_small, smooth_ap (-1.00 points).",
    ]


def test_intervals_that_exclude_zero_are_counted(tmp_path):
    runs = []
    for seed, noise in enumerate([0.99, 1.0, 1.01]):
        for dataset, factor in ("a", 0.5), ("b", 2.0), ("c", 1.0):
            runs += pair(
                measures(opis=0.004),
                measures(opis=0.004 * factor * noise),
                dataset=dataset,
                seed=seed,
            )
    text, _ = report(tmp_path, runs)
    opis = markdown_tables(text)[3][1]
    assert opis[1:3] == ["2 of 3<br>1 of 3 \\*", "1 of 3<br>1 of 3 \\*"]
    cells = [row[2] for row in markdown_tables(text)[0][1:]]
    assert [cell.endswith("\\*") for cell in cells] == [True, True, False]


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        ("comparison", ["tuning", "sweep"]),
        ("tuning", ["comparison", "sweep"]),
        ("sweep", ["comparison", "tuning"]),
    ],
)
def test_parts_without_runs_are_left_out_in_words(tmp_path, part, lines):
    text, page = report(tmp_path, pair(measures(), measures(opis=0.003), part=part))
    for line in lines:
        assert f"Left out: there is no pair of {line} runs." in text
    assert f"no pair of {part} runs" not in text
    assert page.tags.count("img") == 1
    figures = {"comparison": "utility", "tuning": "trade_off", "sweep": "consistency"}
    (path,) = (tmp_path / "out" / "images").iterdir()
    assert path.name == f"study_{figures[part]}.png"


def test_what_is_missing_is_listed(tmp_path):
    runs = pair(measures(), measures(opis=0.003), seed=0)
    runs += pair(measures(), measures(opis=0.003), seed=1, dataset="codes")
    runs += [run(seed=2)]
    text, _ = report(tmp_path, runs)
    assert (
        "- missing from the comparison: glyphs, resnet_small, smooth_ap, seed 1" in text
    )
    assert (
        "- missing from the comparison: codes, resnet_small, smooth_ap, seed 0" in text
    )
    assert "- not used, for want of its partner: run004.json" in text
    assert "Every combination" not in text


def test_comparisons_without_a_pair_are_counted(tmp_path):
    runs = pair(measures(), measures(opis=0.003))
    runs += [run(dataset="codes")]
    text, _ = report(tmp_path, runs)
    assert "1 of 2 comparisons have a pair" in text


def test_pairs_of_different_versions_are_told(tmp_path):
    runs = pair(measures(), measures(opis=0.003))
    runs[1]["versions"]["keras"] = "3.14.0"
    text, _ = report(tmp_path, runs)
    assert "keras 3.15.1 (1 runs) / 3.14.0 (1 runs)" in text
    assert "run000.json and run001.json come from different versions" in text


def test_settings_that_depend_on_the_network(tmp_path):
    runs = pair(measures(), measures(opis=0.003))
    runs += pair(
        measures(), measures(opis=0.003), backbone="vit_tiny", learning_rate=0.001
    )
    text, _ = report(tmp_path, runs)
    assert "- learning_rate: 0.002 (resnet_small), 0.001 (vit_tiny)" in text


def test_sweep_over_several_data_sets_has_a_figure_for_each(tmp_path):
    runs = []
    for dataset in "glyphs", "codes":
        runs += pair(measures(), measures(opis=0.003), part="sweep", dataset=dataset)
    report(tmp_path, runs)
    for number in 1, 2:
        check_image(tmp_path / "out" / "images" / f"study_consistency_{number}.png")


NASTY = "<script>alert(1)</script> | *a* `b` $x_{$ [c](d) & \"e\" 'f'\n<b>"


def test_names_are_text_whatever_they_are(tmp_path):
    runs = [
        values
        for part in ("comparison", "tuning", "sweep")
        for values in pair(
            measures(),
            measures(opis=0.003),
            part=part,
            dataset=NASTY,
            backbone=NASTY,
            loss=NASTY,
        )
    ]
    for values in runs:
        values["machine"] = values["backend"] = NASTY
        values["versions"] = {NASTY: NASTY}
        values["config"]["weights"] = NASTY
    text, page = report(tmp_path, runs)
    assert not {"script", "b"} & set(page.tags)
    one_line = " ".join(NASTY.split())
    assert page.tables[0][1][0] == ", ".join([one_line] * 3)
    assert any(f"weights: {one_line}" in part for part in page.text)
    assert any(f"machine: {one_line}" in part for part in page.text)
    # Markdown in which HTML counts, as browsers get it.
    reader = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    rendered = Page(reader.render(text))
    assert not {"script", "b", "em", "code", "a"} & set(rendered.tags)
    assert rendered.tables[0][1][0] == page.tables[0][1][0]


# ---------------------------------------------------------------------------- terminal


def test_terminal_gets_the_main_table(whole, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder, text, _ = whole
    show(write_study_report(folder, folder / "again"))
    printed = capsys.readouterr().out
    for word in (
        "codes",
        "resnet_small",
        "multi_similarity",
        "R@1",
        "10%-OPIS",
        "8 of 8",
    ):
        assert word in printed
    assert markdown_tables(text)[0][1][1] in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_terminal_colours(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    cells = [toned("up", "better"), toned("no", "worse")]
    show(table(["", "a", "b"], [["x", *cells], ["y", "on", lines(*cells)]]))
    assert re.search(r"\x1b\[32mup", stream.getvalue())
    assert re.search(r"\x1b\[31mno", stream.getvalue())
    assert len(re.findall(r"\x1b\[32mup", stream.getvalue())) == 2
    assert re.search(r" on ", stream.getvalue())


def test_terminal_without_arrows(monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    show(table(["", "10⁻³"], [["[bold]x", lines("↑ +1", "↓ -1")]]))
    show(paragraph("a → b"))
    sys.stdout.flush()
    printed = buffer.getvalue().decode("ascii")
    assert "? +1" in printed
    assert "a ? b" in printed
    assert "[bold]x" in printed


# --------------------------------------------------------------------- blocks, measures


def test_markdown_by_hand():
    text = document(
        [
            heading("Title", 1),
            paragraph("One\ntwo <b>."),
            bullets(["long_tail", "a_ *"]),
            table(["x", "y|z"], [["a|b", lines("1", toned("2", "worse"))]]),
            figure("images/some.png", "What it shows"),
        ]
    )
    assert '<br><span class="worse">2</span> |' in text
    assert without_tones(text) == (
        "# Title\n\nOne two &lt;b&gt;.\n\n- long_tail\n- a\\_ \\*\n\n"
        "| x | y\\|z |\n| --- | ---: |\n| a\\|b | 1<br>2 |\n\n"
        "![What it shows](images/some.png)\n"
    )


def test_html_escapes_the_title_and_descriptions(tmp_path):
    (tmp_path / "some.png").write_bytes(b"png")
    blocks = [heading("<u>"), bullets(["<s>"]), figure("some.png", '"><p x="')]
    page = to_html("<i>", document(blocks), tmp_path)
    parsed = Page(page)
    assert not {"i", "u", "s"} & set(parsed.tags)
    assert ("img", "alt", '"><p x="') in parsed.attributes
    assert ("img", "src", "data:image/png;base64,cG5n") in parsed.attributes


@pytest.mark.parametrize(
    "start",
    ["# a", "- a", "+ a", "* a", "1. a", "12) a", "> a", "[a]: b", "```", "---"],
)
def test_text_begins_no_other_block(tmp_path, capsys, start):
    text = document([paragraph(start), bullets([start])])
    page = Page(to_html("", text, tmp_path))
    assert [part for part in page.text if part.strip()] == [start, start]
    assert page.tags.count("ul") == page.tags.count("p") == 1
    assert not {"h1", "ol", "blockquote", "pre", "hr"} & set(page.tags)
    show(paragraph(start))
    assert capsys.readouterr().out == f"{start}\n"


def test_what_is_markdown_is_not_escaped_again():
    text = toned("a*b", "better")
    assert text == '<span class="better">a\\*b</span>'
    assert plain(text) == lines(text) == text
    assert plain("<span>") == "&lt;span&gt;"
    assert toned("a*b", "") == "a\\*b"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (RECALL.difference(Estimate(0.012, None)), toned("↑ +1.20", "better")),
        (
            RECALL.difference(Estimate(-0.012, (-0.02, -0.001))),
            toned("↓ -1.20 [-2.00, -0.10] *", "worse"),
        ),
        (
            RECALL.difference(Estimate(-0.012, (-0.02, -0.001)), is_brief=True),
            toned("↓ -1.20 *", "worse"),
        ),
        (
            OPIS.relative(Estimate(-0.5, (-0.75, 0.25))),
            toned("↓ -50.0% [-75.0%, +25.0%]", "better"),
        ),
        (OPIS.difference(Estimate(0.0015, None)), toned("↑ +1.500", "worse")),
        (
            OPIS.difference(Estimate(0.0, (0.0, 0.0))),
            toned("→ +0.000 [+0.000, +0.000]", ""),
        ),
    ],
)
def test_changes_are_written_with_direction_and_tone(change, expected):
    assert change == expected


# --------------------------------------------------------------------- trade-off figure


def tuning(tmp_path, changes):
    """Comparisons of the tuning: R@1 in points and ratio of OPIS by loss and weight."""
    runs = []
    for number, (loss, weight, points, ratio) in enumerate(changes):
        runs += pair(
            measures(0.8, 0.004),
            measures(0.8 + points / 100, 0.004 * ratio),
            part="tuning",
            loss=loss,
            dataset=f"d{number}",
            tcm={**TCM, "weight": weight},
        )
    return summarize(read_runs(write_runs(tmp_path, runs)), "tuning").comparisons


def test_trade_off_figure_has_a_panel_a_loss(tmp_path):
    comparisons = tuning(
        tmp_path,
        [
            ("a$_{b", 0.1, 1.0, 0.5),
            ("a$_{b", 0.1, 3.0, 0.125),
            ("a$_{b", 1.0, -1.0, 0.8),
            ("c", 0.1, 0.5, 1.5),
        ],
    )
    figure = plot_trade_off(comparisons)
    figure.canvas.draw()
    assert [ax.get_title() for ax in figure.axes] == ["a$_{b", "c"]
    line = figure.axes[0].lines[-1]
    # From no change to the means of the weights: OPIS as a multiple of that without.
    np.testing.assert_allclose(line.get_xdata(), [0, 2, -1], atol=1e-9)
    np.testing.assert_allclose(line.get_ydata(), [1, 0.25, 0.8])
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:3] == ["without TCM", "weight 0.1", "weight 1"]
    matplotlib.pyplot.close(figure)


def test_mean_change_by_hand(tmp_path):
    comparisons = tuning(tmp_path, [("a", 0.1, 1.0, 0.5), ("a", 0.1, 3.0, 0.125)])
    recall, opis = mean_change(comparisons)
    assert recall == pytest.approx(0.02)
    assert opis == pytest.approx(-0.75)
