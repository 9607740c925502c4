"""Take docs/pictures/show.png, what `hear-axlstm show` draws of a phrase of strings, thrice, of wind and another phrase.

python -m scripts.picture_of_show
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import hear_axlstm
from examples.demo import RATE, filtered_noise, plucked

PICTURE = Path(__file__).parents[1] / "docs/pictures/show.png"
PHRASE, OTHER = (48, 55, 60, 64), (50, 57, 62, 65)  # MIDI notes
SECONDS = 1.6  # of each part
COLOURS = 96  # few enough for a small file, and no eye sees that there are not more


def sound() -> np.ndarray:
    """The phrase, the phrase again, wind, another phrase, and the first once more."""
    parts = [
        plucked(PHRASE),
        plucked(PHRASE),
        12 * filtered_noise(SECONDS, -0.5, np.ones_like),
        plucked(OTHER),
        plucked(PHRASE),
    ]
    wave = np.concatenate([part[: round(SECONDS * RATE)] for part in parts])
    return 0.8 * wave / np.abs(wave).max()


def main() -> None:
    """Draw the sound, and keep the picture in few colours."""
    shown = hear_axlstm.moments((sound(), RATE))
    with tempfile.TemporaryDirectory() as folder:
        shown.draw(Path(folder, "show.png"))
        with Image.open(Path(folder, "show.png")) as picture:
            picture.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
