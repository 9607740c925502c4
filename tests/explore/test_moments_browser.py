"""The page of one sound in a real browser: its pictures, its play head, its moments by mouse, finger and key."""

import json
import re

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import Embedder, Encoder, moments
from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.explore import moments_page
from tests.conftest import tone
from tests.explore.conftest import HOSTILE

COLOURS = """(() => {
  const {width, height} = picture;
  const pixels = picture.getContext("2d").getImageData(0, 0, width, height).data;
  const within = (top, bottom) => {
    const found = new Set();
    for (let y = Math.ceil(top); y < bottom; y++) {
      for (let x = LEFT + 1; x < LEFT + boxes.wide - 1; x++) {
        found.add(pixels.slice(4 * (y * width + x), 4 * (y * width + x) + 3).join());
      }
    }
    return found.size;
  };
  return [[boxes.wave, boxes.wave + boxes.waveHigh], [boxes.mel + 1, boxes.mel + boxes.melHigh - 1],
          [boxes.similarity + 1, boxes.similarity + boxes.wide - 1]].map((part) => within(...part));
})()"""


ROUNDED = 0.0051  # seconds, where a page shows two digits


def seconds_in(text):
    """The time that a text begins with."""
    return float(text.partition(" s")[0])


def until(expression):
    """A promise of an expression being true."""
    return f"new Promise((done) => {{ const look = () => ({expression}) ? done(true) : setTimeout(look, 20); look(); }})"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Embedder(Encoder(AxLSTMConfig(width=16, depth=2)))


@pytest.fixture(scope="module")
def drawn(model, tmp_path_factory):
    """Three seconds: a tone, another one, and the first again; the page's name is HTML."""
    folder = tmp_path_factory.mktemp("pages & more")
    path = folder / f"{HOSTILE.replace('/', '_')}.wav"
    noise = 0.01 * np.random.default_rng(0).normal(size=3 * SAMPLE_RATE)
    soundfile.write(path, np.concatenate([tone(400, 1), tone(3_000, 1), tone(400, 1)]) + noise, SAMPLE_RATE)
    shown = moments(path, model)
    shown.draw(folder / "page.html")
    return shown, folder / "page.html"


@pytest.fixture
def page(browser, drawn):
    page = browser.page(drawn[1])
    page.run(until("audio.readyState > 0"))
    yield page
    for event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
        assert not page.events(event)
    urls = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert all(url.startswith(("file:", "data:")) for url in urls), [url[:80] for url in urls]


def where(page, across, down=None):
    """Where on the screen a time is: in the log-mel, or where two times meet in the similarity."""
    page.run("window.scrollTo(0, 0)")
    y = "boxes.mel + boxes.melHigh / 2" if down is None else f"down({down})"
    return page.run(
        f"(() => {{ const box = picture.getBoundingClientRect();"
        f" return {{x: box.left + across({across}), y: box.top + {y}}}; }})()"
    )


def click(page, across, down=None):
    page.call("Page.bringToFront")
    page.click_at(**where(page, across, down))


def texts(page, selector):
    return page.run(f"Array.from(document.querySelectorAll('{selector}'), (element) => element.textContent)")


@pytest.mark.parametrize("dark", [False, True])
def test_three_pictures_are_drawn(browser, drawn, dark):
    page = browser.page(drawn[1], dark=dark)
    wave, mel, similarity = page.run(COLOURS)
    assert wave > 1
    assert mel > 30
    assert similarity > 30
    assert page.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 22, 26)" if dark else "rgb(253, 253, 252)"
    )


def test_the_page_has_the_numbers_of_the_sound(page, drawn):
    shown = drawn[0]
    found = page.run(
        "Array.from({length: count}, (_, row) => Array.from({length: count}, (_, column) => cosine(row, column)))"
    )
    np.testing.assert_allclose(found, shown.similarity, atol=0.005)
    np.testing.assert_allclose(page.run("Array.from(times)"), shown.times / 1000, atol=1e-6)
    assert page.run("audio.duration") == pytest.approx(3.0, abs=0.01)


def test_a_click_chooses_a_moment_plays_from_it_and_says_what_is_like_it(page, drawn):
    click(page, 0.5)
    place = int((0.5 + 0.005) / 0.04)
    assert page.run("chosen") == place
    assert seconds_in(texts(page, "#time")[0]) == pytest.approx(drawn[0].times[place] / 1000, abs=ROUNDED)
    page.run(until("!audio.paused && audio.currentTime > 0.45"))
    row, times = drawn[0].similarity[place], drawn[0].times / 1000
    far = np.abs(times - times[place]) > 0.5
    best = int(np.where(far, row, -2).argmax())
    listed = texts(page, "#similar li")
    assert float(listed[0].partition(" s")[2]) == pytest.approx(row[best], abs=0.011)
    seconds = [times[place], *map(seconds_in, listed)]
    assert min(abs(one - other) for at, one in enumerate(seconds) for other in seconds[:at]) > 0.5 - ROUNDED


def test_the_play_head_moves_and_the_end_comes(page):
    page.run("marked = 0; const mark0 = mark; mark = () => { marked++; mark0(); }; undefined")
    click(page, 2.6)
    page.run(until("audio.ended"))
    assert page.run("marked") > 5
    assert page.run("audio.currentTime") == pytest.approx(3.0, abs=0.05)
    page.run(until("!drawing"))


def test_a_similar_moment_is_a_way_on(page):
    click(page, 0.5)
    other = page.run("alike(chosen)[1]")
    page.click("#similar li:nth-child(2) button")
    assert page.run("chosen") == other
    page.run(until("audio.currentTime >= begin(chosen) - 0.05"))


def test_what_is_pointed_at_is_said(page, drawn):
    page.call("Page.bringToFront")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **where(page, 0.5, 2.5))
    one, other = (int((seconds + 0.005) / 0.04) for seconds in (0.5, 2.5))
    times = drawn[0].times / 1000
    said = texts(page, ".tip")[0].replace("\N{MINUS SIGN}", "-")
    found = re.fullmatch(r"([\d.]+) s and ([\d.]+) s: (-?[\d.]+)", said)
    assert [float(text) for text in found.groups()] == pytest.approx(
        [times[one], times[other], drawn[0].similarity[one, other]], abs=0.011
    )
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **where(page, 0.5))
    assert ", most like " in texts(page, ".tip")[0]
    assert seconds_in(texts(page, ".tip")[0]) == pytest.approx(times[one], abs=ROUNDED)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    assert page.run("tip.hidden")


def test_keys_choose_play_and_let_go(page):
    page.run("picture.focus()")
    page.press("ArrowRight")
    assert page.run("chosen") == 0
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.press(key)
        assert page.run("chosen") == place
    assert ", most like " in page.run("picture.getAttribute('aria-valuetext')")
    page.press("Enter")
    page.run(until("!audio.paused && audio.currentTime > 0"))
    page.press(" ")
    assert page.run("audio.paused")
    page.press("Escape")
    assert page.run("chosen") == -1
    assert page.run("find('details').hidden")


def test_a_hostile_name_stays_text(page, drawn):
    assert texts(page, "h1") == [drawn[0].name]
    assert page.run("document.title") == drawn[0].name
    assert page.run("document.querySelectorAll('img').length") == 0


def test_it_fits_a_phone_and_a_finger(browser, drawn):
    page = browser.page(drawn[1], width=390)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert min(page.run(COLOURS)) > 1
    spot = where(page, 1.5)
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[spot])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.run(until("chosen === 37"))


def test_what_does_not_play_is_said(browser, model, tmp_path, monkeypatch):
    monkeypatch.setattr(moments_page, "HEARD_SECONDS", 1)
    moments((np.concatenate([tone(400, 1), tone(3_000, 1)]), SAMPLE_RATE), model).draw(tmp_path / "page.html")
    page = browser.page(tmp_path / "page.html")
    click(page, 1.5)
    assert texts(page, "#silent") == ["This page plays the first 1 s alone."]
    assert page.run("audio.paused")
    click(page, 0.5)
    assert page.run("find('silent').hidden")
    assert json.loads(page.run("JSON.stringify(data.heard)")) == 1
