"""The page as text: self-contained, escaped, and accessible by its structure."""

import re
import sys
from html.parser import HTMLParser

import pytest

from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.report import write_report
from tests.evaluation.report.world import BASE, ESC, TINY, VOX, failure, in_memory, paper_scores, record, scores

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Elements(HTMLParser):
    """All elements, and whether every one is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, *tags):
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def elements(text):
    found = Elements(text)
    assert found.open == []
    return found


def test_nothing_is_fetched_from_elsewhere(elements, text):
    for attributes in (attributes for _, attributes in elements.found):
        assert not attributes.get("src")
        assert attributes.get("href", "#")[0] == "#" or attributes["href"].startswith(("https://", "data:,"))
    assert elements.of("link") == [{"rel": "icon", "href": "data:,"}]
    assert not re.search(r"@import|url\(|@font-face", text)
    (policy,) = [meta["content"] for meta in elements.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_links_lead_somewhere(elements):
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for a in elements.of("a", "use") if a["href"].startswith("#")]
    labels = [a[name] for _, a in elements.found for name in ("aria-labelledby",) if name in a]
    assert set(targets) | set(labels) <= set(ids)
    assert len(targets) > 50


def test_every_table_has_headers_with_scope(elements):
    assert {attributes.get("scope") for attributes in elements.of("th")} == {"col", "row"}
    scrolled = [a for a in elements.of("div") if a.get("class") == "scroll"]
    assert len(scrolled) == len(elements.of("table"))
    assert all(a["tabindex"] == "0" and (a.get("aria-label") or a.get("aria-labelledby")) for a in scrolled)


def test_every_point_of_a_plot_says_what_it_is(elements):
    points = [attributes for attributes in elements.of("g") if "point" in attributes["class"].split()]
    assert len(points) > 200
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in points)
    assert f"{BASE} (native), FSD50K: " in str(points)
    for svg in elements.of("svg"):
        assert svg.get("aria-hidden") == "true" or svg["aria-label"]


def test_ours_are_told_apart_by_more_than_colour(elements, text):
    assert {use["href"] for use in elements.of("use")} >= {"#shape-circle", "#shape-square", "#shape-tick", "#shape-dot"}
    assert text.count('class="hidden"> published') == 20 + 34


def test_the_page_says_what_stands_behind_the_numbers(text):
    flat = " ".join(text.split())
    for words in (
        "Protocol axlstm",
        "Protocol hear2021",
        f"{len(TINY):064x}",
        "torch 2.13.0",
        "layout = released",
        "failed: fsd50k-v1.0-full/train.json cannot be read",
        "not evaluated",
        "no score with seed 9",
        "within 0.044",
        "the two must not be mixed",
        "nothing about another pretraining run",
        "Those of MWMAE and MSM-MAE include the decoder.",
    ):
        assert words in flat, words


def test_a_name_is_never_markup():
    name = "<script>window.pwned=1</script>\"' onload=x {{ 7 * 7 }}"
    found = scores(name, {task: value for task, value in paper_scores("AxLSTM-T").items() if task != VOX}, 2)
    task = scores(name, {"<img src=x>": 0.5}, 2, differences=["<b>bold</b>"])
    text = write_report(in_memory([record(name, module=name)], [*found, *task], [failure(name, VOX, name)]), "html")
    parsed = Elements(text)
    assert parsed.open == []
    assert (len(parsed.of("script")), len(parsed.of("img")), len(parsed.of("b", "img"))) == (1, 0, text.count("<b>"))
    assert "<b>bold" not in text
    assert text.count("&lt;script&gt;window.pwned=1&lt;/script&gt;") > 5
    assert "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    assert not any("onload" in attributes for _, attributes in parsed.found)


@pytest.mark.parametrize(
    "report",
    [
        in_memory([record("m", None)], scores("m", {ESC: 0.5}, 1)),
        in_memory([record("m")], [], [failure("m", ESC, "no such folder")]),
        in_memory([record("m")], scores("m", {"own": 2.5}, 2, metric="d_prime", protocol="mine")),
        in_memory([record("m")], []),
        in_memory(
            [record("a", 5), record("b", 9)], [*scores("a", {ESC: 0.5, VOX: 0.5}), *scores("b", {ESC: 0.6, VOX: 0.5})]
        ),
    ],
    ids=["one score", "only a failure", "own task and protocol", "nothing", "two tasks"],
)
def test_little_is_reported_as_well(report):
    assert Elements(write_report(report, "html")).open == []


def test_jinja2_is_asked_for_by_its_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"pip install 'hear-axlstm\[evaluate\]'"):
        write_report(results, "html")
    assert write_report(results, "md")


def report_of(found):
    models = dict.fromkeys(score.model for score in found)
    text = write_report(in_memory([record(name, 1_000 * (place + 1)) for place, name in enumerate(models)], found), "html")
    return text, Elements(text)


def legends(text):
    return [re.findall(r"</svg>([^<]*)</li>", legend) for legend in re.findall(r'<ul class="legend">(.*?)</ul>', text, re.S)]


def test_legends_list_the_marks_that_their_plot_has_and_no_others():
    values = {ESC: 0.5, VOX: 0.6}
    imitated = [one for name in "ab" for one in scores(name, values, 2, differences=["its sound is synthesised"])]
    assert legends(report_of(imitated)[0]) == [["a (native, imitated tasks)", "b (native, imitated tasks)"]] * 2
    genuine = [one for name in "ab" for one in scores(name, values, 2)]
    assert legends(report_of(genuine)[0]) == [["a (native)", "b (native)", "published"]] * 2
    distances = scores("c", {"birds": 2.5}, 2, metric="d_prime")  # no plot in percent has a mark of it
    assert legends(report_of([*scores("a", {"frogs": 0.5}, 2), *distances])[0]) == [["a (native)"]]


def test_confusion_matrices_are_open_unless_they_are_many():
    own = {"confusions": {"test": {"b": {"b": 2, "c": 1}, "c": {"c": 3}}}}
    for models, shown in ("abcd", 4), ("abcde", 0):
        text, _ = report_of([one for name in models for one in scores(name, {"birds": 0.8}, 1, **own)])
        matrices = [part for part in re.findall(r"<details.*?</details>", text, re.S) if "Confusions of" in part]
        assert (len(matrices), sum(part.startswith("<details open") for part in matrices)) == (len(models), shown)


def test_models_of_one_size_have_no_plot_against_it():
    values = {ESC: 0.5, VOX: 0.6}
    found = [one for name in "ab" for one in scores(name, values, 2, differences=["its sound is synthesised"])]
    assert 'class="scatter"' in report_of(found)[0]
    assert 'class="scatter"' not in write_report(in_memory([record("a"), record("b")], found), "html")


def test_imitations_and_own_tasks_are_plain_to_see():
    own = {"confusions": {"test": {"<b>": {"<b>": 2, "c": 1}, "c": {"c": 3}}}, "differences": ["birds is no HEAR task"]}
    found = [
        *scores("m", paper_scores("AxLSTM-B"), 2, differences=["its sound is synthesised"]),
        *scores("own", {"birds": 0.8}, 2, **own),
    ]
    text = write_report(in_memory([record("m"), record("own")], found), "html")
    Elements(text)
    assert 'class="banner"' in text
    assert '<tr class="apart">' in text
    assert '<tr class="ours">' not in text
    assert "birds: accuracy, percent" in text
    assert '<table class="confusion">' in text
    assert "&lt;b&gt;" in text


@pytest.mark.parametrize("format", ["html", "md"])
def test_the_confusions_of_many_classes_are_listed(format):
    confusion = {f"c{place:02}": {f"c{place:02}": 3} for place in range(61)}
    confusion["c07"] = {"c07": 1, "c08": 2}
    own = {"confusions": {"test": confusion}, "differences": ["birds is no HEAR task"]}
    text = write_report(in_memory([record("own")], scores("own", {"birds": 0.9}, 1, **own)), format)
    assert "All confusions are shown; the matrix of 61 classes is in the report with " in text
    if format == "md":
        assert "| c07 | c08 | 2 of 3 |" in text
    else:
        Elements(text)
        assert '<th scope="row">c07</th><td>c08</td><td>2 of 3</td>' in text
        assert 'class="confusion"' not in text
