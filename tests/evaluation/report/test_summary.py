"""What a report says: which scores stand beside which, and what is said where there are none."""

import math
from dataclasses import replace

import pytest

from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.published import papers_table
from hear_axlstm.evaluation.report import write_report
from hear_axlstm.evaluation.report.plots import dots
from hear_axlstm.evaluation.report.rankings import AGGREGATE, why_no_aggregate
from hear_axlstm.evaluation.report.summary import summarise
from hear_axlstm.evaluation.report.wording import pair_words, problems_together
from hear_axlstm.evaluation.statistics import estimate, papers_scale
from tests.evaluation.report.world import (
    BASE,
    ESC,
    FSD,
    TEN,
    TINY,
    VOX,
    failure,
    in_memory,
    paper_scores,
    record,
    score,
    scores,
)

BO = TEN[0]


def section_of(models, found, failures=()):
    """The only section of what was evaluated."""
    (section,) = summarise(in_memory(models, found, failures)).sections
    return section


def row_of(section, label):
    (row,) = [row for row in section.rows if row.label == label]
    return row


def ranking_of(section, title):
    (ranking,) = [ranking for ranking in section.rankings if ranking.title == title]
    return ranking


# Scores beside each other


def test_protocols_have_sections_of_their_own_with_their_own_published_models(summary):
    papers, hear = summary.sections
    assert (papers.title, hear.title) == ("axlstm", "hear2021")
    assert [len(section.published) for section in summary.sections] == [20, 34]
    assert [[row.model for row in section.ours] for section in summary.sections] == [[BASE, TINY], [BASE]]


def test_a_cell_is_the_mean_over_seeds_in_percent_with_its_interval(summary, results):
    row = row_of(summary.sections[0], f"{BASE} (native)")
    values = [100 * s.score for s in results.scores if (s.model, s.task, s.protocol) == (BASE, ESC, "axlstm")]
    assert len(values) == 10
    assert row.cells[ESC].estimate == estimate(values)
    assert 78 < row.cells[ESC].estimate.mean < 80.5


def test_the_papers_ten_tasks_are_always_there_and_others_follow():
    gtzan = "tfds_gtzan-1.0.0-full"
    section = section_of([record("m")], [*scores("m", {gtzan: 0.8}), *scores("m", {"my-task": 0.5})])
    assert [column.task for column in section.columns] == [*TEN, gtzan, "my-task"]
    assert section.columns[-1].title == "my-task"


def test_the_leaderboard_shows_the_tasks_that_were_evaluated(summary):
    assert [column.title for column in summary.sections[1].columns] == ["Beijing Opera", "ESC-50", "FSD50K", "GTZAN Genre"]


def test_engines_and_weights_have_rows_of_their_own():
    found = [
        *scores("m", {ESC: 0.7}),
        *scores("m", {ESC: 0.8}, engine="heareval"),
        *scores("m", {BO: 0.9}, engine="heareval", weights_sha256="abcdef" * 10),
    ]
    labels = [row.label for row in section_of([record("m")], found).ours]
    assert labels == ["m (heareval, weights 00000000)", "m (heareval, weights abcdefab)", "m (native)"]


def test_protocols_of_one_name_are_never_in_one_table():
    found = [*scores("m", {ESC: 0.7}), *scores("other", {ESC: 0.9}, protocol_sha256="f" * 64)]
    ours, theirs = summarise(in_memory([record("m"), record("other")], found)).sections
    assert (ours.title, theirs.title) == (f"axlstm ({ours.sha256[:8]})", "axlstm (ffffffff)")
    assert (len(ours.published), len(theirs.published)) == (20, 0)
    assert all("several protocols" in section.warnings[0] for section in (ours, theirs))
    assert "not the protocol axlstm of this version" in theirs.warnings[1]
    assert theirs.rankings == ()


def test_scores_of_one_task_name_but_other_clips_are_marked_and_not_tested():
    found = [*scores("a", {ESC: 0.7, BO: 0.9}), *scores("b", {ESC: 0.8}, task_sha256="c" * 64), *scores("b", {BO: 0.91})]
    section = section_of([record("a"), record("b")], found)
    (warning,) = section.warnings
    assert warning.startswith("ESC-50: not the same clips and labels for all models")
    assert "b (native) (cccccccc)" in warning
    (pair,) = section.pairs
    assert [task.title for task in pair.tasks] == ["Beijing Opera"]


def test_seeds_of_different_tasks_are_not_averaged():
    found = [score("m", ESC, 0, 0.7), score("m", ESC, 1, 0.1, task_sha256="c" * 64)]
    section = section_of([record("m")], found)
    assert section.ours[0].cells == {}
    (problem,) = [problem for problem in section.problems if problem.title == "ESC-50"]
    assert (problem.kind, "different tasks of this name" in problem.reason) == ("mixed", True)


# s(m)


def test_s_is_that_of_each_seed_then_averaged(summary, results):
    by_seed = {}
    for found in results.scores:
        if found.model == BASE and found.protocol == "axlstm":
            by_seed.setdefault(found.seed, {})[found.task] = 100 * found.score
    expected = estimate([papers_scale().score(by_task) for by_task in by_seed.values()])
    found = row_of(summary.sections[0], f"{BASE} (native)").aggregate
    assert found.mean == pytest.approx(expected.mean)
    assert (found.ci95, found.n) == (pytest.approx(expected.ci95), 10)


@pytest.mark.parametrize("name", ["HEAR-Naive", "AxLSTM-B", "MWMAE-Base"])
def test_a_model_with_published_scores_gets_its_published_s(name):
    section = section_of([record("m")], [score("m", task, 0, value) for task, value in paper_scores(name).items()])
    (published,) = [model.aggregate for model in papers_table().models if model.name == name]
    assert section.ours[0].aggregate.mean == pytest.approx(published.mean, abs=0.05)
    assert section.ours[0].aggregate.ci95 is None


def test_s_needs_seeds_that_all_tasks_have():
    values = paper_scores("AxLSTM-B")
    found = [one for one in scores("m", values) if one.task != ESC or one.seed < 4]
    (row,) = section_of([record("m")], found).ours
    assert (row.aggregate.n, row.cells[BO].estimate.n) == (4, 10)
    none = [one for one in scores("m", values, 2) if (one.task == ESC) == (one.seed == 1)]
    (row,) = section_of([record("m")], none).ours
    assert row.aggregate is None
    assert why_no_aggregate(row) == "no seed that all tasks have"


def test_there_is_no_s_with_another_protocol():
    section = section_of([record("m")], scores("m", paper_scores("AxLSTM-B"), protocol="hear2021"))
    assert section.ours[0].aggregate is None
    assert [ranking.title for ranking in section.rankings] == ["Mean over 10 tasks"]
    assert not section.rankings[0].partial


def test_there_is_no_s_with_a_protocol_that_only_has_the_papers_name():
    section = section_of([record("m")], scores("m", paper_scores("AxLSTM-B"), protocol_sha256="f" * 64))
    assert section.ours[0].aggregate is None
    assert [entry.label for ranking in section.rankings for entry in ranking.entries] == ["m (native)"]


def test_a_missing_task_gives_a_partial_mean_beside_published_ones_over_the_same_tasks(summary):
    papers = summary.sections[0]
    row = row_of(papers, f"{TINY} (native)")
    assert row.aggregate is None
    assert why_no_aggregate(row) == "partial: 8 of 10 tasks"
    ranking = ranking_of(papers, "Mean over 8 tasks")
    assert ranking.partial
    assert set(TEN) - set(ranking.tasks) == {FSD, VOX}
    entries = {entry.label: entry.estimate for entry in ranking.entries}
    assert len(entries) == 22  # the model with all ten, too
    (published,) = [model for model in papers_table().models if model.name == "AxLSTM-T"]
    expected = sum(found.mean for task, found in published.scores.items() if task not in {FSD, VOX}) / 8
    assert entries["AxLSTM-T"].mean == pytest.approx(expected)
    assert entries["AxLSTM-T"].ci95 is None
    assert entries[f"{TINY} (native)"].n == 9  # ESC-50 lacks a seed
    assert entries[f"{TINY} (native)"].mean == pytest.approx(expected, abs=0.3)


def test_every_set_of_tasks_has_a_mean_of_its_own_the_largest_first():
    values = paper_scores("AxLSTM-T")
    nine = {task: value for task, value in values.items() if task != FSD}
    two = {ESC: values[ESC], BO: values[BO]}
    found = [*scores("two", two, 2), *scores("nine", nine, 2), *scores("one", {ESC: 0.5}, 2)]
    section = section_of([record("two"), record("nine"), record("one")], found)
    assert [ranking.title for ranking in section.rankings] == ["Mean over 9 tasks", "Mean over 2 tasks"]
    assert ranking_of(section, "Mean over 9 tasks").left_out == ("one (native)", "two (native)")
    assert sum(entry.ours for entry in ranking_of(section, "Mean over 2 tasks").entries) == 2


def test_rankings_are_sorted_and_s_has_only_those_who_have_it(summary):
    ranking = ranking_of(summary.sections[0], AGGREGATE)
    assert len(ranking.entries) == 21
    means = [entry.estimate.mean for entry in ranking.entries]
    assert means == sorted(means, reverse=True)
    assert [entry.label for entry in ranking.entries if entry.ours] == [f"{BASE} (native)"]


def test_published_models_without_one_of_the_tasks_are_left_out_by_name(summary):
    (ranking,) = summary.sections[1].rankings
    assert ranking.left_out == ("AMAAI Lab wav2vec2+DDSP", "Sony UDONS ViT", "CVSSP PANNS", "Soundsensing YAMNet")
    assert len(ranking.entries) == 34 - 4 + 1


def test_tasks_that_are_not_hears_get_no_s_and_no_published_company():
    other = scores("m", paper_scores("AxLSTM-B"), differences=["clips: 40, in HEAR 2000"])
    section = section_of([record("m")], other)
    (row,) = section.ours
    assert row.aggregate is None
    assert why_no_aggregate(row) == "10 tasks are not as in HEAR"
    (ranking,) = section.rankings
    assert (ranking.title, ranking.differ, ranking.partial) == ("Mean over 10 tasks", True, True)
    assert [entry.label for entry in ranking.entries] == ["m (native)"]
    assert [found.differences for found in section.differences] == [("clips: 40, in HEAR 2000",)] * 10


def test_one_task_that_is_not_hears_is_left_out_of_the_mean():
    values = paper_scores("AxLSTM-B")
    found = [*scores("m", {task: value for task, value in values.items() if task != ESC})]
    found += scores("m", {ESC: values[ESC]}, differences=["labels: 49, in HEAR 50"])
    section = section_of([record("m")], found)
    assert why_no_aggregate(section.ours[0]) == "1 task is not as in HEAR"
    (ranking,) = section.rankings
    assert (ranking.title, ranking.differ, len(ranking.entries)) == ("Mean over 9 tasks", False, 21)
    assert ESC not in ranking.tasks


def test_means_of_synthetic_tasks_are_compared_only_over_the_same_ones():
    differs = {"differences": ["clips: 40, in HEAR 2000"]}
    found = [*scores("a", {ESC: 0.5, BO: 0.6}, **differs), *scores("b", {ESC: 0.6, BO: 0.7}, **differs)]
    found += scores("c", {ESC: 0.6, BO: 0.7}, **differs, task_sha256="d" * 64)
    together, alone = section_of([record(name) for name in "abc"], found).rankings
    assert {tuple(sorted(entry.label for entry in ranking.entries)) for ranking in (together, alone)} == {
        ("a (native)", "b (native)"),
        ("c (native)",),
    }


def test_a_score_that_is_not_in_percent_is_kept_out_of_means():
    found = [*scores("m", {ESC: 0.5, BO: 0.6}), *scores("m", {"own": 2.5}, metric="d_prime")]
    section = section_of([record("m")], found)
    assert section.ours[0].cells["own"].estimate.mean == pytest.approx(2.5, abs=0.01)
    assert [ranking.title for ranking in section.rankings] == ["Mean over 2 tasks"]


def test_scores_that_are_not_numbers_are_no_part_of_any_mean():
    values = paper_scores("AxLSTM-B")
    found = [one if one.task != ESC else replace(one, score=math.nan) for one in scores("m", values)]
    section = section_of([record("m")], found)
    assert section.ours[0].aggregate is None
    assert [ranking.title for ranking in section.rankings] == ["Mean over 9 tasks"]
    for format in ("html", "md", "csv", "json", "latex"):
        assert write_report(in_memory([record("m")], found), format)


# What failed or is missing


def test_everything_that_failed_or_is_missing_is_named_with_its_reason(summary):
    problems = {(problem.row, problem.title): problem for problem in summary.sections[0].problems}
    tiny = f"{TINY} (native)"
    assert {key: problem.kind for key, problem in problems.items()} == {
        (tiny, "VoxLingua107 Top 10"): "missing",
        (tiny, "ESC-50"): "seeds",
        (tiny, "FSD50K"): "failed",
    }
    assert "line 2041 column 7" in problems[tiny, "FSD50K"].reason
    assert problems[tiny, "ESC-50"].reason == "no score with seed 9"


def test_a_model_of_which_everything_failed_has_a_row():
    section = section_of([record("m")], [], [failure("m", ESC, "no such folder")])
    (row,) = section.ours
    assert (row.cells, row.gaps[ESC].reason, row.aggregate) == ({}, "no such folder", None)
    assert len(section.published) == 20
    assert section.rankings == ()


def test_a_task_that_failed_after_some_seeds_shows_both():
    section = section_of([record("m")], scores("m", {ESC: 0.5}, 3), [failure("m", ESC, "the process died")])
    (row,) = section.ours
    assert (row.cells[ESC].estimate.n, row.gaps[ESC].kind) == (3, "failed")


def test_a_model_that_was_only_begun_is_named():
    found = summarise(in_memory([record("m"), record("begun")], scores("m", {ESC: 0.5})))
    assert found.without_results == ("begun",)
    assert "Begun, but without results: begun." in write_report(in_memory([record("begun")], []), "md")


# Differences


def test_differences_are_paired_by_seed_and_adjusted(summary):
    (pair,) = summary.sections[0].pairs
    assert (pair.left, pair.right) == (f"{BASE} (native)", f"{TINY} (native)")
    tasks = {task.title: task for task in pair.tasks}
    assert len(tasks) == 8
    assert tasks["ESC-50"].difference.estimate.n == 9
    assert tasks["ESC-50"].difference.estimate.mean == pytest.approx(79.2 - 61.3, abs=1)
    assert tasks["ESC-50"].adjusted < 1e-6
    assert all(task.adjusted >= task.difference.p for task in pair.tasks)
    assert pair.overall_title == "Mean over 8 tasks"
    assert pair.overall.estimate.n == 9


def test_two_models_with_s_are_compared_by_it():
    found = [*scores("a", paper_scores("AxLSTM-B")), *scores("b", paper_scores("AxLSTM-S"))]
    (pair,) = section_of([record("a"), record("b")], found).pairs
    assert pair.overall_title == AGGREGATE
    assert pair.overall.estimate.mean == pytest.approx(86.6 - 81.1, abs=0.4)


def test_every_two_models_are_compared_and_one_alone_is_not():
    found = [one for name in "abc" for one in scores(name, {ESC: 0.5}, 2)]
    pairs = section_of([record(name) for name in "abc"], found).pairs
    assert [(pair.left[0], pair.right[0]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert section_of([record("a")], scores("a", {ESC: 0.5})).pairs == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "One seed: differences have no test. Evaluate with --seeds 3 or more."),
        ({"protocol": "linear", "engine": "linear"}, "Nothing in the linear engine is random, so differences have no test."),
    ],
    ids=["native", "linear"],
)
def test_differences_of_one_seed_have_no_test_and_the_words_say_so(changes, expected):
    found = [one for name in "ab" for one in scores(name, {ESC: 0.5, VOX: 0.4}, 1, **changes)]
    section = section_of([record("a"), record("b")], found)
    assert pair_words(section.pairs[0], section) == expected


def test_two_seeds_have_a_test_and_the_words_say_how_little_it_finds():
    left, right = scores("a", {ESC: 0.9, VOX: 0.4}, 2), scores("b", {ESC: 0.5, VOX: 0.4}, 2)
    section = section_of([record("a"), record("b")], [*left, *right])
    assert pair_words(section.pairs[0], section) == (
        "Of 2 tasks, a (native) is higher on 1 and lower on 0 (adjusted p < 0.05). With 2 seeds, a difference counts only "
        "from 12.7 times its standard error on; with 10 seeds, from 2.3 times."
    )


def test_tasks_without_a_test_are_named_with_the_reason():
    left = [score("a", ESC, seed, 0.5) for seed in range(6)] + [score("a", VOX, 0, 0.5)]
    right = [score("b", ESC, seed, 0.4) for seed in range(6)] + scores("b", {VOX: 0.4}, 2)
    section = section_of([record("a"), record("b")], [*left, *right])
    assert pair_words(section.pairs[0], section) == (
        "Both models have only one seed in common, and so no test, on: VoxLingua107 Top 10. "
        "The difference has no spread over seeds, and so no test, on: ESC-50."
    )


# Details


def test_details_hold_the_other_metrics_folds_and_settings(summary):
    details = summary.sections[0].details[0]
    esc = next(task for task in details.tasks if task.task == ESC)
    assert set(esc.metrics) == {"loss", "top1_acc", "mAP", "d_prime", "aucroc"}
    assert esc.metrics["d_prime"].mean == 2.125  # not in percent
    assert esc.metrics["mAP"].mean == pytest.approx(79.2, abs=0.6)
    assert list(esc.folds) == [f"fold{index:02}" for index in range(5)]
    assert esc.folds["fold04"].mean - esc.folds["fold00"].mean == pytest.approx(4)
    assert esc.validation.mean == pytest.approx(81.2, abs=0.6)
    assert esc.settings == {"dropout": {"0.1": 4, "0.25": 6}}  # lr is the same


def test_details_say_where_scores_are_from(summary):
    details = summary.sections[0].details[1]
    assert details.weights_sha256 == f"{len(TINY):064x}"
    assert (details.devices, details.versions["torch"]) == (("cuda",), ("2.13.0",))
    assert details.seeds == tuple(range(10))
    assert (details.first, details.last) == ("2026-11-20T10:00:00+00:00", "2026-11-20T10:09:00+00:00")
    assert details.seconds == 12.5 * 79


def test_several_versions_are_all_named():
    found = [*scores("m", {ESC: 0.5}, 2), score("m", ESC, 2, 0.5, versions={"torch": "2.15.0"}, device="cpu")]
    (details,) = section_of([record("m")], found).details
    assert details.versions == {"python": ("3.11.2",), "torch": ("2.13.0", "2.15.0")}
    assert details.devices == ("cpu", "cuda")


def test_an_unknown_format_is_refused(results):
    with pytest.raises(ConfigError, match="format is 'pdf'; expected one of html, md, csv, json, latex"):
        write_report(results, "pdf")


def test_the_same_results_give_the_same_report(results):
    for format in ("html", "md", "csv", "json", "latex"):
        assert write_report(results, format) == write_report(results, format)


# Imitations, and tasks that HEAR does not have

IMITATED = ["its sound is synthesised", "clips: 40, in HEAR 2000"]
CONFUSION = {
    "fold00": {"wren": {"wren": 3, "robin": 1}, "robin": {"robin": 4}},
    "fold01": {"wren": {"wren": 4}, "robin": {}},
}


def test_imitated_tasks_are_marked_wherever_they_stand_and_beneath_what_was_published():
    summary = summarise(in_memory([record("m")], scores("m", paper_scores("AxLSTM-B"), 2, differences=IMITATED)))
    assert summary.banner.startswith("These scores are of synthesised imitations of HEAR's tasks.")
    (section,) = summary.sections
    (row,) = section.ours
    assert row.label == "m (native, imitated tasks)"
    assert section.rows[-1] is row
    assert row.apart
    (ranking,) = section.rankings
    assert [entry.label for entry in ranking.entries] == ["m (native, imitated tasks)"]
    assert dots(section, {row.label: "circle"}).strips[0].published == ()


def test_some_imitated_tasks_are_named_in_the_banner():
    found = [*scores("m", {ESC: 0.7}, 2, differences=IMITATED), *scores("m", {BO: 0.9}, 2)]
    summary = summarise(in_memory([record("m")], found))
    assert summary.banner.startswith("Some of these scores are of synthesised imitations of HEAR's tasks: ESC-50.")
    assert summary.sections[0].ours[0].label == "m (native, some tasks imitated)"
    assert not summary.sections[0].ours[0].apart


def test_own_tasks_beside_imitated_ones_are_neither_called_imitated_nor_in_a_mean_with_them():
    found = [one for name in "ab" for one in scores(name, {ESC: 0.7, BO: 0.6}, 2, differences=IMITATED)]
    found += [one for name in "ab" for one in scores(name, {"birds": 0.9}, 2)]
    summary = summarise(in_memory([record("a"), record("b")], found))
    assert summary.banner.startswith("Some of these scores are of synthesised imitations")
    (section,) = summary.sections
    assert [row.label for row in section.ours] == ["a (native, some tasks imitated)", "b (native, some tasks imitated)"]
    assert ranking_of(section, "Mean over 2 tasks").tasks == (BO, ESC)
    assert (len(section.pairs[0].tasks), section.pairs[0].overall_title) == (3, "Mean over 2 tasks")


def test_tasks_that_lack_for_one_reason_are_named_together():
    section = section_of([record("m")], scores("m", {task: 0.5 for task in TEN if task not in (ESC, VOX)}, 1))
    ((problem, titles),) = problems_together(section.problems)
    assert (problem.row, problem.reason, titles) == ("m (native)", "not evaluated", "VoxLingua107 Top 10, ESC-50")


def test_without_imitations_there_is_no_banner(summary):
    assert summary.banner == ""


def test_a_task_that_hear_does_not_have_stands_apart_with_its_classes():
    own = {"differences": ["birds is no HEAR task"], "confusions": CONFUSION}
    section = section_of([record("m")], scores("m", {"birds": 0.8}, 3, **own))
    assert (section.table, section.published, section.hear_columns, section.rows) == (None, (), (), ())
    assert [column.title for column in section.other_columns] == ["birds"]
    assert section.problems == section.differences == ()
    (found,) = section.classes
    assert (found.classes, found.clips, found.splits, found.seeds) == (("wren", "robin"), 12, 2, 3)
    assert found.matrix == ((21, 3), (0, 12))
    wren, robin = found.scores
    assert (wren.precision, wren.recall, wren.clips) == (1.0, pytest.approx(7 / 8), 8)
    assert (robin.precision, robin.recall, robin.clips) == (pytest.approx(4 / 5), 1.0, 4)


def test_a_task_with_tags_has_the_average_precision_of_each_class():
    tags = {"test": {"wren": {"average_precision": 0.5, "clips": 4}, "robin": {"average_precision": 0.75, "clips": 2}}}
    section = section_of([record("m")], scores("m", {"birds": 0.8}, 2, differences=["no HEAR task"], precisions=tags))
    (found,) = section.classes
    assert [(one.name, one.precision.mean, one.clips) for one in found.precisions] == [("wren", 0.5, 4), ("robin", 0.75, 2)]
    assert found.matrix == found.scores == ()


def test_scores_of_before_classes_were_kept_are_shown_without_them():
    section = section_of([record("m")], scores("m", {"birds": 0.8}, 2))
    assert section.classes == ()
    assert section.ours[0].cells["birds"].estimate.n == 2
