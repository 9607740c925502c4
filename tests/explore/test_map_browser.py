"""A map's page in a real browser: dots to choose, hear, hide, search and walk through, and no harm by names."""

import csv
import shutil

import numpy as np
import pytest

import hear_axlstm
from hear_axlstm import draw_map
from tests.explore.conftest import FOLDERS

PAINTED = """(() => {
  const {width, height} = map;
  const copy = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(map, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  const found = {};
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = [pixels[at], pixels[at + 1], pixels[at + 2]].join();
    found[colour] = (found[colour] || 0) + 1;
  }
  delete found[[pixels[0], pixels[1], pixels[2]].join()];  // what is behind the dots
  return found;
})()"""
LOADED = "new Promise((done) => audio.readyState ? done() : audio.addEventListener('loadedmetadata', () => done()))"
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


@pytest.fixture(scope="module")
def drawn(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / "map.html"
    return draw_map(result, path), path


@pytest.fixture
def page(browser, drawn):
    page = browser.page(drawn[1])
    yield page
    assert not page.events("Runtime.exceptionThrown")
    assert not page.events("Runtime.consoleAPICalled")
    assert not page.events("Log.entryAdded")
    urls = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    assert all(url.startswith(("file:", "data:")) for url in urls), urls


def where(page, sound):
    """Where on the screen a sound's dot is."""
    page.run("window.scrollTo(0, 0)")
    return page.run(
        f"(() => {{ const box = map.getBoundingClientRect();"
        f" return {{x: box.left + screenX({sound}), y: box.top + screenY({sound})}}; }})()"
    )


def choose(page, sound):
    """Click on a sound's dot."""
    page.call("Page.bringToFront")
    page.click_at(**where(page, sound))
    page.run(TWO_FRAMES)


def texts(page, selector):
    return page.run(f"Array.from(document.querySelectorAll('{selector}'), (element) => element.textContent)")


def painted(page):
    """How many pixels have each colour, of those that are dots rather than their edges."""
    page.run(TWO_FRAMES)
    return {colour: count for colour, count in page.run(PAINTED).items() if count > 60}


def test_every_folder_has_dots_of_its_colour(page):
    assert len(painted(page)) >= len(FOLDERS)
    assert texts(page, ".legend bdi") == sorted(FOLDERS)
    assert texts(page, ".legend small") == ["6", "6"]
    assert page.run("chosen") == -1


def test_a_click_shows_a_sound_and_its_neighbours_and_plays_it(page, drawn):
    choose(page, 3)
    assert texts(page, "#name, #folder, #length") == ["high/tone 3.wav", "high", "0.25 s"]
    assert texts(page, "#neighbours bdi") == [drawn[0].names[other] for other in drawn[0].neighbours[3]]
    cosines = page.run("Array.from(document.querySelectorAll('#neighbours li'), (row) => Number(row.lastChild.textContent))")
    np.testing.assert_allclose(cosines, drawn[0].cosines[3], atol=0.0051)
    assert page.run("decodeURIComponent(audio.src)") == f"file://{drawn[0].paths[3]}"
    ended = "new Promise((done) => audio.ended ? done(true) : audio.addEventListener('ended', () => done(true)))"
    assert page.run(ended)
    assert page.run("audio.readyState") == 4
    assert page.run("audio.duration") == pytest.approx(0.25, abs=0.01)
    assert page.run("find('silent').hidden")


def test_a_neighbour_is_a_way_on(page, drawn):
    choose(page, 0)
    other = int(drawn[0].neighbours[0, 1])
    page.click("#neighbours li:nth-child(2) button")
    assert page.run("chosen") == other
    assert texts(page, "#name") == [drawn[0].names[other]]


def test_a_hostile_name_stays_text(page, drawn):
    hostile = next(place for place, name in enumerate(drawn[0].names) if "onerror" in name)
    choose(page, hostile)
    assert texts(page, "#name") == [drawn[0].names[hostile]]
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **where(page, hostile))
    assert texts(page, ".tip") == [drawn[0].names[hostile]]
    assert page.run("document.querySelectorAll('img').length") == 0
    page.run(
        "new Promise((done) => audio.readyState ? done(true) : audio.addEventListener('loadedmetadata', () => done(true)))"
    )
    assert page.run("audio.duration") == pytest.approx(0.25, abs=0.01)


def test_the_legend_hides_a_folder(page):
    before = painted(page)
    choose(page, 0)
    page.click(".legend label:nth-of-type(1) input")
    after = painted(page)
    assert len(after) < len(before)
    assert page.run("chosen") == -1
    assert page.run("soundAt(screenX(0), screenY(0), 0.5)") != 0
    page.click(".legend label:nth-of-type(1) input")
    assert painted(page) == before


def test_search_finds_names(page):
    page.click("#search")
    page.call("Input.insertText", text="TONE 4")
    assert texts(page, "#found") == ["2 found"]
    assert texts(page, "#results bdi") == ["high/tone 4.wav", "low/tone 4.wav"]
    page.press("Enter")
    assert texts(page, "#name") == ["high/tone 4.wav"]


def test_keys_walk_through_the_map(page):
    page.run("map.focus()")
    page.press("ArrowRight")
    first = page.run("chosen")
    assert first >= 0
    seen = {first}
    for key in ("ArrowRight", "ArrowLeft"):
        for _ in range(12):
            page.press(key)
            seen.add(page.run("chosen"))
    assert len(seen) > 3
    assert page.run("find('said').textContent").startswith(page.run("names[chosen]"))
    page.press("Enter")
    page.run(
        "new Promise((done) => audio.readyState ? done(true) : audio.addEventListener('loadedmetadata', () => done(true)))"
    )
    page.press("+")
    assert page.run("view.zoom") > 1
    page.press("0")
    assert page.run("view.zoom") == 1
    page.press("Escape")
    assert page.run("chosen") == -1


def test_the_wheel_zooms_where_it_points_and_dragging_moves(page):
    page.call("Page.bringToFront")
    before = where(page, 5)
    page.call("Input.dispatchMouseEvent", type="mouseWheel", **before, deltaX=0, deltaY=-300)
    assert page.run("view.zoom") > 1.1
    after = where(page, 5)
    assert after == pytest.approx(before, abs=1.5)
    for kind, shift in (("mousePressed", 0), ("mouseMoved", 30), ("mouseMoved", 60), ("mouseReleased", 60)):
        page.call("Input.dispatchMouseEvent", type=kind, x=after["x"] + shift, y=after["y"], button="left", buttons=1)
    assert where(page, 5)["x"] == pytest.approx(after["x"] + 60, abs=1.5)
    assert page.run("chosen") == -1


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_finger(browser, drawn, dark):
    page = browser.page(drawn[1], width=390, dark=dark)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert len(painted(page)) >= len(FOLDERS)
    spot = where(page, 2)
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[spot])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.run("new Promise((done) => { const look = () => chosen === 2 ? done(true) : setTimeout(look, 20); look(); })")
    assert texts(page, "#name") == [drawn[0].names[2]]


def test_what_cannot_be_heard_is_said(browser, sounds, model, tmp_path):
    own = shutil.copytree(sounds, tmp_path / "sounds", ignore=shutil.ignore_patterns("broken*"))
    result = hear_axlstm.embed([own, np.ones(4_000) * np.linspace(-1, 1, 4_000)], model, sample_rate=16_000)
    (own / "high" / "tone 1.wav").unlink()
    result.paths[2] = "https://here.org/tone.wav"
    draw_map(result, tmp_path / "map.html")
    (own / "high" / "tone 3.wav").write_bytes(b"no sound")
    page = browser.page(tmp_path / "map.html")
    named = page.run("names")

    def said(name):
        page.call("Runtime.evaluate", expression=f"choose({named.index(name)}); play()", userGesture=True)
        return page.run(
            "new Promise((done) => { const look = () => find('silent').hidden ? setTimeout(look, 20)"
            " : done(find('silent').textContent); look(); })"
        )

    assert said("high/tone 1.wav") == "Its file was not there any more when this map was made."
    assert said("high/tone 2.wav") == "It is at an address, which this page does not open: https://here.org/tone.wav"
    assert said("high/tone 3.wav").startswith("The file cannot be played: it is not there any more, or browsers do not know")
    assert said(result.names[-1]) == "It was never in a file."


def test_the_legend_is_large_enough_to_be_touched_and_no_name_fills_the_page(browser, result, tmp_path):
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("name", "label"), *((name, "long " * 1_000) for name in result.names[:3])])
    draw_map(result, tmp_path / "map.html", table=tmp_path / "labels.csv")
    page = browser.page(tmp_path / "map.html")
    heights = page.run("Array.from(document.querySelectorAll('.legend label'), (one) => one.getBoundingClientRect().height)")
    assert len(heights) == 2
    assert all(24 <= height <= 48 for height in heights)
