"""Take docs/pictures/demo_map.png, a picture of the map that `make demo` has made, with chromium.

make demo
python -m scripts.picture_of_map [MAP.html]
"""

import sys
import tempfile
from pathlib import Path

from tests.browser import Browser, find_chromium

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/pictures/demo_map.png"
CHOSEN = "speech/kiwi 130 Hz.wav"
WIDTH, HEIGHT = 960, 640  # px, legible when they are shown 800 wide
SHOT = f"""(async () => {{
    const style = document.styleSheets[0];
    const rules = ["#help {{ display: none }}", ".field {{ height: 400px !important }}", "html {{ overflow: hidden }}"];
    for (const rule of rules) style.insertRule(rule, style.cssRules.length);
    await new Promise((done) => setTimeout(done, 300));
    goTo(names.indexOf({CHOSEN!r}));
    await new Promise((done) => audio.hidden ? done() : (audio.preload = "metadata", audio.load(), setTimeout(done, 700)));
}})()"""


def main(page: Path) -> None:
    """Open the page in a browser, choose a sound, and keep what is seen."""
    program = find_chromium()
    if program is None:
        sys.exit("no chromium here (Debian: apt install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(program, Path(folder))
        shown = browser.page(page.resolve(), width=WIDTH, height=HEIGHT)
        shown.run(SHOT)
        PICTURE.write_bytes(shown.screenshot())
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "demo/map.html")
