"""The page in a real browser: it sorts, fits a phone, can be read in the dark, and prints whole."""

import re
import shutil
import subprocess

import pytest

from hear_axlstm.evaluation.report import write_report
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS
from tests.evaluation.report.world import BASE, TINY, in_memory, paper_scores, record, scores

TABLE = "document.querySelector('#protocol-1 table.sortable')"
PARTIAL, WHOLE = f"{TINY} native, 10 seeds", f"{BASE} native, 10 seeds"

# Elements that stick out to the right although nothing around them scrolls or cuts.
STICKING_OUT = """
(() => {
  const width = document.documentElement.clientWidth;
  const cuts = (element) => getComputedStyle(element).overflowX !== "visible";
  const scrolls = (element) => element && (cuts(element) || scrolls(element.parentElement));
  const hidden = (element) => element.closest(".hidden") || element.closest("[hidden]");
  return Array.from(document.body.querySelectorAll("*"))
    .filter((element) => !hidden(element) && element.getBoundingClientRect().width > 0)
    .filter((element) => {
      const box = element.getBoundingClientRect();
      return (box.right > width + 0.5 || box.left < -0.5) && !scrolls(element.parentElement);
    })
    .map((element) => `${element.tagName} ${element.getAttribute("class")}: ${element.textContent.slice(0, 40)}`);
})()
"""

# Text whose colour is too close to what is behind it, by the contrast of WCAG 2: 4.5 to 1.
PALE_TEXT = """
(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour.length === 4 && colour[3] === 0 ? behind(element.parentElement) : colour;
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script, style, .hidden, [hidden]")) continue;
    const style = getComputedStyle(element);
    const colour = parse(element instanceof SVGElement ? style.fill : style.color);
    const [one, other] = [light(colour), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) found.add(`${element.tagName}.${element.className}: ${contrast.toFixed(2)}`);
  }
  return Array.from(found);
})()
"""


@pytest.fixture(scope="module")
def wide(browser, page):
    return browser.page(page, width=1280)


@pytest.fixture(scope="module")
def phone(browser, page):
    return browser.page(page, width=400)


def header(title):
    """The selector of a column's button."""
    titles = {"Model": 1, "s(m)": 2, "Parameters": 3, "Beijing Opera": 4, "FSD50K": 13}
    return f"#protocol-1 table.sortable th:nth-child({titles[title]}) button"


def column(page, number):
    """What a column shows, row by row, without white space at the ends or twice."""
    texts = page.run(f"Array.from({TABLE}.tBodies[0].rows).map(row => row.cells[{number - 1}].textContent)")
    return [" ".join(text.split()) for text in texts]


def sorted_as(page):
    """aria-sort of each header, where it has one."""
    pairs = page.run(f"Array.from({TABLE}.tHead.rows[0].cells).map(th => [th.cellIndex + 1, th.ariaSort])")
    return {number: state for number, state in pairs if state}


def numbers(texts):
    return [float(found.group()) if (found := re.match(r"\d+\.\d", text)) else None for text in texts]


def test_a_click_sorts_by_the_mean_the_best_first_and_what_is_missing_last(browser, page):
    tab = browser.page(page)
    tab.click(header("FSD50K"))
    found = numbers(column(tab, 13))
    assert found[0] == 64.2
    assert found[:-1] == sorted(found[:-1], reverse=True)
    assert column(tab, 13)[-1] == "failed"
    assert sorted_as(tab) == {13: "descending"}
    tab.click(header("FSD50K"))
    found = numbers(column(tab, 13))
    assert found[:-1] == sorted(found[:-1])
    assert column(tab, 13)[-1] == "failed"
    assert sorted_as(tab) == {13: "ascending"}
    assert tab.run("document.querySelector('[data-sorted]').textContent") == "Sorted by FSD50K, ascending"


def test_numbers_are_sorted_as_numbers(browser, page):
    tab = browser.page(page)
    tab.click(header("Parameters"))
    found = numbers(column(tab, 3))
    assert found[:3] == [315.4, 315.4, 315.4]
    assert found[3] == 92.7  # and not 9...
    assert found[-1] is None


def test_names_are_sorted_as_people_do_and_the_order_of_equals_is_kept(browser, page):
    tab = browser.page(page)
    tab.click(header("Model"))
    names = column(tab, 1)
    assert names[:3] == ["AudioMAE AS published", "AxLSTM-B AS published", WHOLE]
    assert sorted_as(tab) == {1: "ascending"}
    tab.click(header("Parameters"))
    large = ["HuBERT-large LL published", "W2V2-large VP published", "WavLM-large Mix published"]
    assert column(tab, 1)[:3] == large
    tab.click(header("Model"))
    tab.click(header("Model"))
    assert column(tab, 1)[0] == "WavLM-large Mix published"
    tab.click(header("Parameters"))
    assert column(tab, 1)[:3] == large[::-1]


def test_the_keyboard_sorts_too(browser, page):
    tab = browser.page(page)
    tab.run(f"document.querySelector('{header('s(m)')}').focus()")
    tab.press("Enter")
    assert sorted_as(tab) == {2: "descending"}
    assert column(tab, 1)[0] == "MWMAE-Base AS published"
    tab.press(" ")
    assert sorted_as(tab) == {2: "ascending"}
    assert column(tab, 1)[0] == "HEAR-Naive published"
    assert column(tab, 1)[-1] == PARTIAL
    tab.run(f"document.querySelector('{header('Model')}').focus()")
    tab.press("Tab")
    assert tab.run("document.activeElement.firstChild.textContent") == "s(m)"


def test_at_first_what_has_no_s_stands_on_top_and_the_rest_is_sorted_by_it(wide):
    assert column(wide, 1)[:2] == [PARTIAL, "MWMAE-Base AS published"]
    assert sorted_as(wide) == {}


def test_with_s_everywhere_the_table_starts_sorted_by_it(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(write_report(in_memory([record("m")], scores("m", paper_scores("AxLSTM-B"), 2)), "html"))
    tab = browser.page(path)
    assert sorted_as(tab) == {2: "descending"}
    tab.click(header("s(m)"))
    assert sorted_as(tab) == {2: "ascending"}


@pytest.mark.parametrize("width", [320, 400, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, page, width):
    tab = browser.page(page, width=width)
    tab.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert tab.run("document.scrollingElement.scrollWidth") <= width
    assert tab.run("innerWidth") == width  # a phone zooms out when something is wider
    assert tab.run(STICKING_OUT) == []


def test_wide_tables_scroll_in_their_own_frame_with_the_names_in_sight(phone):
    assert phone.run(f"{TABLE}.parentElement.scrollWidth") > 800
    phone.run(f"{TABLE}.parentElement.scrollLeft = 500")
    place = phone.run(f"{TABLE}.tBodies[0].rows[3].cells[0].getBoundingClientRect().left")
    assert place == pytest.approx(16, abs=1)
    phone.run(f"{TABLE}.parentElement.scrollLeft = 1e6")
    assert phone.run(f"{TABLE}.querySelector('.total').getBoundingClientRect().right") <= 400


def test_long_names_break_instead_of_pushing(browser, tmp_path):
    name = "a-model-whose-name-" + "goes-on-and-on-" * 8
    path = tmp_path / "report.html"
    found = [*scores(name, paper_scores("AxLSTM-T"), 2), *scores("other", paper_scores("AxLSTM-S"), 2)]
    path.write_text(write_report(in_memory([record(name), record("other")], found), "html"))
    tab = browser.page(path, width=400)
    assert tab.run("document.scrollingElement.scrollWidth") <= 400
    assert tab.run(STICKING_OUT) == []
    assert tab.run("document.querySelector('.bars .ours svg').getBoundingClientRect().width") > 60


def test_hostile_names_stay_text(browser, tmp_path):
    name = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
    path = tmp_path / "report.html"
    path.write_text(write_report(in_memory([record(name)], scores(name, paper_scores("AxLSTM-T"), 2)), "html"))
    tab = browser.page(path)
    assert tab.run("window.pwned") is None
    assert tab.run("document.querySelector('h1').textContent") == name
    tab.hover(".point.ours")
    assert name in tab.run("document.querySelector('.tip').textContent")
    assert tab.run("document.querySelectorAll('img').length") == 0


def test_pointing_at_a_point_tells_what_it_is(browser, page):
    tab = browser.page(page)
    tab.hover("#protocol-1 .dots .strip:nth-of-type(2) .point.ours use")
    assert tab.run("document.querySelector('.tip').hidden") is False
    assert re.fullmatch(
        rf"{BASE} \(native\), Beijing Opera: 9\d\.\d ± 0\.\d", tab.run("document.querySelector('.tip').textContent")
    )
    tab.hover("h1")
    assert tab.run("document.querySelector('.tip').hidden") is True


def test_the_arrow_keys_walk_through_the_points_and_tab_leaves_them(browser, page):
    tab = browser.page(page)
    plot = "document.querySelector('#protocol-1 .scatter')"
    assert tab.run(f"{plot}.querySelectorAll('[tabindex=\"0\"]').length") == 1
    tab.run(f"{plot}.querySelector('[tabindex=\"0\"]').focus()")
    first = tab.run("document.querySelector('.tip').textContent")
    tab.press("ArrowRight")
    second = tab.run("document.querySelector('.tip').textContent")
    assert first != second
    assert second == tab.run("document.activeElement.getAttribute('aria-label')")
    tab.press("ArrowLeft")
    tab.press("ArrowLeft")
    assert BASE in tab.run("document.activeElement.getAttribute('aria-label')")  # round to the last, which is ours
    tab.press("Tab")
    assert tab.run(f"{plot}.contains(document.activeElement)") is False


def test_what_a_focused_point_is_stays_in_sight_when_the_page_scrolls_to_it(browser, page):
    tab = browser.page(page)
    tab.call("Page.bringToFront")
    tab.run("""new Promise((done) => {
      addEventListener("scrollend", done, { once: true });
      document.querySelector("#protocol-1 .dots [tabindex='0']").focus();
    }).then(() => null)""")
    assert tab.run("scrollY") > 500
    assert tab.run("document.querySelector('.tip').hidden") is False
    assert tab.run(
        "(box => box.top > 0 && box.bottom < innerHeight)(document.querySelector('.tip').getBoundingClientRect())"
    )


def test_points_stand_where_their_numbers_are(wide):
    """A score of 79.2 stands 79.2 % from the left of its strip."""
    shares = wide.run("""
      Array.from(document.querySelectorAll("#protocol-1 .dots .point")).map((point) => {
        const strip = point.ownerSVGElement.getBoundingClientRect();
        const mark = point.querySelector("use").getBoundingClientRect();
        return [point.getAttribute("aria-label"), 100 * (mark.left + mark.width / 2 - strip.left) / strip.width];
      })
    """)
    assert len(shares) == 10 * 20 + 10 + 8
    for words, share in shares:
        assert share == pytest.approx(float(re.search(r": ([\d.]+)", words).group(1)), abs=0.25), words


def test_bars_are_as_long_as_their_numbers(wide):
    lengths = wide.run("""
      Array.from(document.querySelectorAll("#protocol-1 .bars")[0].children).map((bar) =>
        [bar.querySelector(".value").textContent, bar.querySelector("rect").getBoundingClientRect().width])
    """)
    pairs = [(float(value.split(" ±")[0]), length) for value, length in lengths]
    assert len(pairs) == 21
    for value, length in pairs:
        assert length / pairs[0][1] == pytest.approx(value / pairs[0][0], abs=0.005)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(browser, page, dark):
    tab = browser.page(page, dark=dark)
    tab.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", background))) < 64) == dark
    assert tab.run(PALE_TEXT) == []


def test_the_page_is_silent_and_asks_for_nothing(browser, page):
    tab = browser.page(page)
    tab.click(header("FSD50K"))
    tab.hover(".point.ours")
    tab.run("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    assert [event["request"]["url"] for event in tab.events("Network.requestWillBeSent")] == [page.as_uri()]
    for event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
        assert tab.events(event) == []


def test_paper_is_light_and_shows_everything(browser, page):
    tab = browser.page(page, dark=True, width=965)  # landscape Letter less its margins; A4 is wider
    tab.emulate_print()
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run(PALE_TEXT) == []
    assert tab.run("document.scrollingElement.scrollWidth") <= 965
    cut = tab.run("Array.from(document.querySelectorAll('.scroll')).filter(e => e.scrollWidth > e.clientWidth + 1).length")
    assert cut == 0
    tab.run("dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.querySelectorAll('details:not([open])').length") == 0
    tab.run("dispatchEvent(new Event('afterprint'))")
    assert tab.run("document.querySelectorAll('details:not([open])').length") == 3


def test_twenty_tasks_fit_on_paper_as_well(browser, tmp_path):
    path = tmp_path / "report.html"
    found = scores("a-model-of-mine", dict.fromkeys(KNOWN_TASKS, 0.876), 3, protocol="hear2021")
    path.write_text(write_report(in_memory([record("a-model-of-mine")], found), "html"))
    tab = browser.page(path, width=965)
    tab.emulate_print()
    assert tab.run("document.scrollingElement.scrollWidth") <= 965


@pytest.mark.parametrize("script", [True, False], ids=["with its script", "without"])
def test_it_prints(browser, page, tmp_path, script):
    path = page
    if not script:
        path = tmp_path / "without.html"
        path.write_text(
            re.sub("<script>.*</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8"
        )
    printed = browser.page(path).pdf()
    assert printed.startswith(b"%PDF-")
    if shutil.which("pdftotext"):
        (tmp_path / "report.pdf").write_bytes(printed)
        command = ["pdftotext", "-layout", tmp_path / "report.pdf", "-"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for words in ("HEAR-Naive", "5.1 ±0.7", "How to read this", "4.3", "no score with seed 9"):
            assert words in text
        for folded in ("Score of every seed", f"{len(TINY):064x}"):
            assert folded in text
