"""Reading and pairing the runs of a study, and the statistics over them."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from study_runs import AUTO, TCM, measures, pair, run, whole_study, write_runs

from keras_tcm import Evaluation
from keras_tcm.study.estimate import Estimate, mean_estimate
from keras_tcm.study.grid import AutoTCMSetting, TCMSetting
from keras_tcm.study.run_record import read_runs
from keras_tcm.study.summary import (
    Count,
    by_arm,
    count_changes,
    paired_change,
    representative,
    summarize,
)

# ------------------------------------------------------------------------- statistics


@pytest.mark.parametrize(("size", "t"), [(2, 12.7062), (3, 4.30265), (16, 2.13145)])
def test_student_t_quantiles_of_the_tables(size, t):
    # Of size - 1 degrees of freedom, printed to four or five decimals.
    values = np.random.default_rng(size).normal(size=size)
    low, high = mean_estimate(values).interval
    error = np.std(values, ddof=1) / math.sqrt(size)
    assert (high - low) / 2 == pytest.approx(t * error, rel=5e-6)


def test_mean_with_its_interval():
    # Standard deviation 1, so a standard error of 1 / sqrt(3); t = 4.30265.
    estimate = mean_estimate([1.0, 2.0, 3.0])
    assert estimate.value == 2
    assert estimate.interval == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)


@pytest.mark.parametrize("size", [2, 3, 5, 16])
def test_interval_agrees_with_scipy(size):
    values = np.random.default_rng(size).normal(3, 2, size)
    expected = stats.t.interval(0.95, size - 1, values.mean(), stats.sem(values))
    assert mean_estimate(values).interval == pytest.approx(expected, rel=1e-9)


def test_one_value_has_no_interval():
    estimate = mean_estimate([0.25])
    assert estimate == Estimate(0.25, None)
    assert not estimate.excludes_zero
    assert estimate.map(math.exp).interval is None


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.1, 0.2), True), ((-2, -1), True), ((-1, 1), False), ((0, 0), False)],
)
def test_interval_excludes_zero(interval, expected):
    assert Estimate(0.0, interval).excludes_zero is expected


def test_difference_by_hand():
    change = paired_change([2.0, 8.0], [1.0, 1.0], is_ratio=False)
    assert (change.without, change.with_tcm) == (5, 1)
    assert change.change.value == -4
    assert change.shown == change.change


def test_ratio_by_hand():
    # Log ratios log(1/2) and log(1/8): their mean is log(1/4).
    change = paired_change([2.0, 8.0], [1.0, 1.0], is_ratio=True)
    assert change.without == pytest.approx(4)
    assert change.with_tcm == pytest.approx(1)
    assert change.change.value == pytest.approx(math.log(0.25))
    assert change.shown.value == pytest.approx(-0.75)
    # Half a width of t * sd / sqrt(2) = 12.7062 * log(4) / 2.
    half = 12.7062 * math.log(4) / 2
    low, high = (math.expm1(math.log(0.25) + sign * half) for sign in (-1, 1))
    assert change.shown.interval == pytest.approx((low, high), rel=1e-3)


def test_intervals_are_those_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    before, after = rng.uniform(0.001, 0.01, size=(2, 6))
    difference, ratio = (
        paired_change(before, after, is_ratio=x) for x in (False, True)
    )
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    assert difference.change.interval == pytest.approx(tuple(expected))
    expected = stats.ttest_1samp(np.log(after / before), 0).confidence_interval(0.95)
    assert ratio.change.interval == pytest.approx(tuple(expected))


def test_relative_change_does_not_depend_on_the_scale_and_swaps_sign():
    before, after = np.array([0.004, 0.003, 0.005]), np.array([0.003, 0.004, 0.002])
    change = paired_change(before, after, is_ratio=True)
    larger = paired_change(9 * before, 9 * after, is_ratio=True)
    assert larger.shown.value == pytest.approx(change.shown.value)
    assert larger.shown.interval == pytest.approx(change.shown.interval)
    swapped = paired_change(after, before, is_ratio=True)
    assert swapped.change.value == pytest.approx(-change.change.value)
    low, high = change.change.interval
    assert swapped.change.interval == pytest.approx((-high, -low))


def test_runs_are_averaged_as_suits_the_measure(tmp_path):
    runs = pair(measures(0.80, 0.002, 0.02), measures(0.82, 0.001, 0.02), seed=0)
    runs += pair(measures(0.70, 0.008, 0.08), measures(0.76, 0.001, 0.08), seed=1)
    (comparison,) = summarize(read(tmp_path, runs), "comparison").comparisons
    recall, opis, worst = (
        comparison.changes[name] for name in ("recall_at_1", "opis", "epsilon_opis")
    )
    assert (recall.without, recall.with_tcm) == pytest.approx((0.75, 0.79))
    assert recall.shown.value == pytest.approx(0.04)
    assert (opis.without, opis.with_tcm) == pytest.approx((0.004, 0.001))
    assert opis.shown.value == pytest.approx(-0.75)
    assert (worst.without, worst.with_tcm) == pytest.approx((0.04, 0.04))


def test_counts():
    estimates = [
        Estimate(-2.0, (-3, -1)),
        Estimate(-1.0, (-3, 1)),
        Estimate(-1.0, None),
        Estimate(1.0, (0.5, 1.5)),
        Estimate(0.0, (-1, 1)),
    ]
    expected = Count(
        better=3, worse=1, surely_better=1, surely_worse=1, with_interval=4
    )
    assert count_changes(estimates, is_higher_better=False) == expected
    turned = Count(better=1, worse=3, surely_better=1, surely_worse=1, with_interval=4)
    assert count_changes(estimates, is_higher_better=True) == turned


# ----------------------------------------------------------------------------- reading


def read(tmp_path, runs):
    return read_runs(write_runs(tmp_path, runs))


def test_runs_are_read_once_each(tmp_path):
    runs = whole_study(datasets=("glyphs",), seeds=(0,), arms=(TCM, AUTO))
    records = read(tmp_path, runs)
    assert len(records) == len(runs)
    for record, values in zip(records, runs, strict=True):
        assert record.run.part == values["part"]
        assert record.run.config() == values["config"]
        evaluation = values["evaluation"]
        assert record.measures == {
            "recall_at_1": evaluation["recall"]["1"],
            "opis": evaluation["opis"],
            "epsilon_opis": evaluation["epsilon_opis"],
        }
        assert record.seconds == values["seconds"]["training"]


def test_whole_evaluation_is_read_on_demand(tmp_path):
    values = run()
    (record,) = read(tmp_path, [values])
    evaluation = record.evaluation()
    assert isinstance(evaluation, Evaluation)
    assert evaluation.to_dict() == values["evaluation"]


def test_keys_that_are_not_known_do_no_harm(tmp_path):
    values = run(flip=True)
    values["remark"] = "added later"
    (record,) = read(tmp_path, [values])
    assert record.run.cell.recipe.flip is True


def test_settings_that_are_not_known_are_refused(tmp_path):
    """Runs that differ in one would count as a pair."""
    with pytest.raises(ValueError, match=r"run000\.json.*no run has the .* momentum"):
        read(tmp_path, [run(momentum=0.9)])


@pytest.mark.parametrize("folder", ["", "runs", "runs/deeper"])
def test_folder_without_runs(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"`directory` must hold runs.*Received: "):
        read_runs(tmp_path)


def changed(path, value):
    """A run with one value replaced, or left out if it is `None`."""
    values = run(tcm=dict(TCM))
    *outer, last = path.split("/")
    place = values
    for key in outer:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("content", "mentioned"),
    [
        ("", "not JSON"),
        ('{"format": 1, "part":', "not JSON"),
        ("\x00", "not JSON"),
        ("[]", "format"),
        ("null", "format"),
        ('{"opis": 0.1}', "format"),
        ('{"format": 2}', "format"),
        ('{"format": 1}', "config"),
        (changed("part", "other"), "part"),
        (changed("part", None), "part"),
        (changed("config", []), "config"),
        (changed("config/seed", None), "seed"),
        (changed("config/seed", "0"), "seed"),
        (changed("config/dataset", 3), "dataset"),
        (changed("config/tcm", None), "tcm"),
        (changed("config/tcm", 0.3), "tcm"),
        (changed("config/tcm/weight", None), "weight"),
        (changed("config/tcm", {"strength": "0.7"}), "strength"),
        (changed("config/steps", True), "steps"),
        (changed("config/flip", 1), "flip"),
        (changed("config/warmup", False), "warmup"),
        (changed("config/learning_rate", None), "learning_rate"),
        (changed("config/tcm/weight", "0.3"), "weight"),
        (changed("versions", None), "versions"),
        (changed("seconds/training", "long"), "training"),
        (changed("evaluation/format", "other"), "evaluation"),
        (changed("evaluation/opis", 0.0), "opis"),
        (changed("evaluation/opis", "low"), "opis"),
        (changed("evaluation/opis", math.nan), "opis"),
        (changed("evaluation/epsilon_opis", None), "epsilon_opis"),
        (changed("evaluation/recall", {"5": 0.8}), "`1`"),
    ],
)
def test_foreign_or_damaged_file_is_named(tmp_path, content, mentioned):
    write_runs(tmp_path, [run()])
    path = tmp_path / "runs" / "zz.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"zz\.json") as error:
        read_runs(tmp_path)
    assert mentioned in str(error.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    write_runs(tmp_path, [run()])
    (tmp_path / "runs" / "zz.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"zz\.json"):
        read_runs(tmp_path)


def test_damaged_evaluation_is_named_when_it_is_read(tmp_path):
    values = run()
    del values["evaluation"]["utility"]
    (record,) = read(tmp_path, [values])
    with pytest.raises(ValueError, match=r"run000\.json.*evaluation"):
        record.evaluation()


def test_runs_of_different_measures_are_refused(tmp_path):
    runs = [run(), run(seed=1, measures={"epsilon": 0.2})]
    with pytest.raises(ValueError, match=r"run001\.json.*epsilon"):
        read(tmp_path, runs)


# ----------------------------------------------------------------------------- pairing


def test_pairs_share_the_seed(tmp_path):
    runs = []
    for seed, without, with_tcm in (0, 0.004, 0.002), (1, 0.010, 0.009), (2, 0.3, 0.1):
        runs += pair(measures(opis=without), measures(opis=with_tcm), seed=seed)
    # The order of the files does not matter.
    summary = summarize(read(tmp_path, runs[::-1]), "comparison")
    (comparison,) = summary.comparisons
    assert list(comparison.pairs) == [0, 1, 2]
    expected = np.mean(np.log([2 / 4, 9 / 10, 1 / 3]))
    change = comparison.changes["opis"]
    assert change.change.value == pytest.approx(expected)
    assert change.without == pytest.approx((0.004 * 0.010 * 0.3) ** (1 / 3))
    assert comparison.example.tcm == TCMSetting(**TCM)
    assert comparison.weight == TCM["weight"]
    assert (summary.missing, summary.unused) == ([], [])


def test_one_seed_has_no_intervals(tmp_path):
    (comparison,) = summarize(
        read(tmp_path, pair(measures(), measures(opis=0.002))), "comparison"
    ).comparisons
    change = comparison.changes["opis"]
    assert change.shown == Estimate(pytest.approx(-0.5), None)
    assert comparison.changes["recall_at_1"].shown == Estimate(0.0, None)


def test_run_without_partner_is_listed_and_not_used(tmp_path):
    runs = pair(measures(opis=0.004), measures(opis=0.002), seed=0)
    runs += pair(measures(opis=0.5), measures(opis=0.9), seed=1)[1:]
    runs += pair(measures(opis=0.5), measures(opis=0.9), seed=2)[:1]
    summary = summarize(read(tmp_path, runs), "comparison")
    (comparison,) = summary.comparisons
    assert list(comparison.pairs) == [0]
    assert comparison.changes["opis"].without == pytest.approx(0.004)
    assert [record.path.name for record in summary.unused] == [
        "run003.json",
        "run002.json",
    ]
    assert summary.missing == [
        "glyphs, resnet_small, smooth_ap, seed 1, without TCM",
        "glyphs, resnet_small, smooth_ap, TCM, seed 2",
    ]


def arms(tmp_path, auto_seeds=(0, 1)):
    """Summary of three models for each of two seeds, and what has two partners."""
    runs = []
    for seed, opis in (0, 0.004), (1, 0.009):
        runs += pair(measures(opis=opis), measures(opis=opis / 2), seed=seed)
        if seed in auto_seeds:
            runs.append(run(tcm=AUTO, measures=measures(opis=opis / 4), seed=seed))
    return summarize(read(tmp_path, runs), "comparison")


def test_each_arm_is_compared_with_the_same_models(tmp_path):
    summary = arms(tmp_path)
    assert (summary.missing, summary.unused, summary.num_expected) == ([], [], 2)
    found = by_arm(summary.comparisons)
    assert list(found) == ["AutoTCM", "TCM"]
    for (one,), ratio in zip(found.values(), (0.25, 0.5), strict=True):
        assert list(one.pairs) == [0, 1]
        assert one.changes["opis"].without == pytest.approx(0.006)
        assert one.changes["opis"].shown.value == pytest.approx(ratio - 1)
    (auto,) = found["AutoTCM"]
    assert auto.example.tcm == AutoTCMSetting(0.5)
    assert str(auto.setting) == "glyphs, resnet_small, smooth_ap, AutoTCM"


def test_run_that_one_arm_lacks_is_listed(tmp_path):
    summary = arms(tmp_path, auto_seeds=(1,))
    assert summary.missing == ["glyphs, resnet_small, smooth_ap, AutoTCM, seed 0"]
    assert summary.unused == []


def test_study_without_tcm_has_no_comparison(tmp_path):
    summary = summarize(read(tmp_path, [run()]), "comparison")
    assert summary.comparisons == summary.missing == []
    assert len(summary.unused) == 1


def test_missing_combination_is_listed(tmp_path):
    runs = []
    for dataset in "glyphs", "codes":
        for loss in "smooth_ap", "multi_similarity":
            if (dataset, loss) != ("codes", "smooth_ap"):
                runs += pair(measures(), measures(), dataset=dataset, loss=loss)
    summary = summarize(read(tmp_path, runs), "comparison")
    assert len(summary.comparisons) == 3
    assert summary.num_expected == 4
    assert summary.missing == [
        "codes, resnet_small, smooth_ap, seed 0, without TCM",
        "codes, resnet_small, smooth_ap, TCM, seed 0",
    ]


@pytest.mark.parametrize("part", ["comparison", "tuning", "sweep"])
def test_part_without_runs(tmp_path, part):
    other = {"comparison": "sweep", "tuning": "comparison", "sweep": "tuning"}[part]
    summary = summarize(read(tmp_path, [run(part=other)]), part)
    assert summary.comparisons == summary.missing == summary.unused == []


def test_tuning_compares_each_weight_with_the_same_base(tmp_path):
    runs = [run("tuning", measures=measures(opis=0.008))]
    for weight, opis in (1.0, 0.002), (0.1, 0.004):
        tcm = {**TCM, "weight": weight}
        runs.append(run("tuning", tcm=tcm, measures=measures(opis=opis)))
    summary = summarize(read(tmp_path, runs), "tuning")
    found = {
        one.setting.weight: one.changes["opis"].shown.value
        for one in summary.comparisons
    }
    assert found == {0.1: pytest.approx(-0.5), 1.0: pytest.approx(-0.75)}
    assert list(found) == [0.1, 1.0]
    assert (summary.missing, summary.unused) == ([], [])


def test_tuning_need_not_combine_everything_but_lists_missing_weights(tmp_path):
    def tuned(weight, **place):
        return run("tuning", tcm={**TCM, "weight": weight}, **place)

    other = {"dataset": "codes", "loss": "triplet_margin"}
    runs = [run("tuning"), tuned(0.1), tuned(0.3)]
    runs += [run("tuning", **other), tuned(0.3, **other)]
    summary = summarize(read(tmp_path, runs), "tuning")
    assert len(summary.comparisons) == 3
    assert summary.missing == [
        "codes, resnet_small, triplet_margin, weight 0.1, seed 0"
    ]


def test_sweep_tells_batch_sizes_apart(tmp_path):
    runs = []
    for batch_size in 128, 32:
        runs += pair(measures(), measures(), part="sweep", batch_size=batch_size)
    summary = summarize(read(tmp_path, runs), "sweep")
    assert [one.setting.batch_size for one in summary.comparisons] == [32, 128]


def test_parts_do_not_mix(tmp_path):
    runs = whole_study(datasets=("glyphs", "codes"), seeds=(0, 1))
    records = read(tmp_path, runs)
    sizes = {
        part: len(summarize(records, part).comparisons)
        for part in ("comparison", "tuning", "sweep")
    }
    assert sizes == {"comparison": 8, "tuning": 24, "sweep": 6}
    for part in sizes:
        summary = summarize(records, part)
        assert summary.missing == []
        assert summary.unused == []


def test_repeated_run_is_an_error_that_names_both_files(tmp_path):
    records = read(tmp_path, [run(tcm=TCM), run(), run(tcm={**TCM, "weight": 0.5})])
    with pytest.raises(ValueError, match=r"run000\.json and .*run002\.json"):
        summarize(records, "comparison")


@pytest.mark.parametrize(
    ("runs", "differing"),
    [
        ([run(), run(tcm=TCM, learning_rate=0.1)], "learning_rate"),
        ([run(), run(tcm=TCM, batch_size=64)], "batch_size"),
        ([run(flip=True), run(tcm=TCM)], "flip"),
        (
            [run(), run(tcm=TCM), run(seed=1), run(seed=1, tcm={**TCM, "weight": 1})],
            "tcm",
        ),
    ],
)
def test_pairs_that_differ_in_more_than_tcm_are_an_error(tmp_path, runs, differing):
    records = read(tmp_path, runs)
    with pytest.raises(ValueError, match=rf"run00\d\.json.*differ in {differing}$"):
        summarize(records, "comparison")


# ---------------------------------------------------------------------- representative


def comparisons(tmp_path, ratios):
    runs = []
    for number, ratio in enumerate(ratios):
        runs += pair(
            measures(opis=0.01), measures(opis=0.01 * ratio), dataset=f"d{number}"
        )
    return summarize(read(tmp_path, runs), "comparison").comparisons


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5], "d0"),
        ([0.9, 0.5, 0.7], "d2"),
        # Between the two in the middle, that with the lower ratio.
        ([0.9, 0.5, 0.7, 0.6], "d3"),
        # By name where they are equal.
        ([0.5, 0.5, 0.5], "d1"),
    ],
)
def test_representative_has_the_median_change(tmp_path, ratios, expected):
    found = comparisons(tmp_path, ratios)
    assert representative(found).setting.dataset == expected
    assert representative(found[::-1]).setting.dataset == expected
