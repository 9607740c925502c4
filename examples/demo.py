"""Synthesise spoken words, music and noise, embed them with the command, print which sound resembles which, and draw a map.

Raw cosines are all alike, so the package removes what all sounds share first; they stand beside it.

    python examples/demo.py [FOLDER]

Words come from espeak-ng when it is installed, else from a few harmonics shaped by formants.
"""

import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

import hear_axlstm
from hear_axlstm.weights.find import read_manifest

RATE = 22_050  # on purpose not the encoder's: the command resamples
RNG = np.random.default_rng(0)
FORMANTS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "o": (570, 840, 2410)}  # Hz
WORDS = {"mama": "aa", "kiwi": "ii", "cocoa": "oo", "papaya": "aaa"}
CHORDS = {"major": (0, 4, 7, 12), "minor": (0, 3, 7, 12)}
SHOWN = 6  # a row of the table for every sixth sound


def seconds(duration):
    return np.arange(round(duration * RATE)) / RATE


def vowel(name, pitch):
    """A quarter of a second: harmonics of ``pitch`` Hz, loud near the vowel's formants."""
    t = seconds(0.25)
    partials = np.arange(1, int(4_000 / pitch)) * pitch
    gains = sum(np.exp(-(((partials - formant) / 120) ** 2)) for formant in FORMANTS[name]) + 0.01
    glide = t * (1 + 0.03 * np.sin(2 * np.pi * 5 * t) / (2 * np.pi * 5))
    return (gains[:, None] * np.sin(2 * np.pi * partials[:, None] * glide)).sum(0) * np.hanning(len(t))


def word(text, pitch, path):
    """Say a word: espeak-ng if it is there, syllables of vowels otherwise."""
    if shutil.which("espeak-ng"):
        subprocess.run(["espeak-ng", "-p", str(pitch // 4), "-w", path, text], check=True)
        return None
    click = RNG.normal(size=len(seconds(0.04))) * np.linspace(0.3, 0, len(seconds(0.04)))
    return np.concatenate([part for letter in WORDS[text] for part in (click, vowel(letter, pitch))])


def plucked(notes):
    """Karplus-Strong strings, one after the other, ringing on."""
    out = np.zeros(len(seconds(0.35 * len(notes) + 1.0)))
    for index, midi in enumerate(notes):
        line = RNG.uniform(-1, 1, round(RATE / (440 * 2 ** ((midi - 69) / 12))))
        string = np.empty(len(seconds(1.3)))
        for start in range(0, len(string), len(line)):
            string[start : start + len(line)] = line[: len(string) - start]
            line = 0.498 * (line + np.roll(line, 1))
        start = len(seconds(0.35 * index))
        out[start : start + len(string)] += string[: len(out) - start]
    return out


def filtered_noise(duration, slope, gate):
    """Noise with a spectrum of ``slope`` powers of frequency, switched by ``gate(t)``."""
    t = seconds(duration)
    spectrum = np.fft.rfft(RNG.normal(size=len(t)))
    shaped = np.fft.irfft(spectrum * np.maximum(np.fft.rfftfreq(len(t), 1 / RATE), 40.0) ** slope, len(t))
    return shaped * gate(t)


def synthesise(folder):
    """Forty-eight sounds, in a folder for each of three kinds."""
    sounds = {}
    for text, pitch in product(WORDS, (100, 130, 160, 200)):
        sounds[f"speech/{text} {pitch} Hz"] = lambda path, text=text, pitch=pitch: word(text, pitch, path)
    for root, (scale, steps) in product((48, 52, 55, 57, 60, 62, 65, 67), CHORDS.items()):
        sounds[f"music/{scale} on {root}"] = lambda _, root=root, steps=steps: plucked([root + step for step in steps])
    for number in range(5):
        sounds[f"noise/wind {number}"] = lambda _, number=number: filtered_noise(
            2.4, -0.8 - 0.1 * number, lambda t: 1 + 0.8 * np.sin(2 * np.pi * (0.4 + 0.1 * number) * t)
        )
        sounds[f"noise/hiss {number}"] = lambda _, number=number: filtered_noise(2.0, 0.1 * number, np.ones_like)
    for rate in range(2, 8):
        sounds[f"noise/train {rate} Hz"] = lambda _, rate=rate: filtered_noise(
            2.2, -0.5, lambda t: np.sin(np.pi * rate * t).clip(0) ** 4
        )
    for name, make in sounds.items():
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = make(path)
        if wave is not None:
            soundfile.write(path, 0.5 * wave / np.abs(wave).max(), RATE)


def command(*arguments):
    subprocess.run([sys.executable, "-m", "hear_axlstm", *arguments], check=True)


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    synthesise(folder / "sounds")
    command("embed", folder / "sounds", "-o", folder / "embeddings")

    result = hear_axlstm.load_embeddings(folder / "embeddings")
    names = [name.removesuffix(".wav") for name in result.names]
    unit = result.matrix / np.linalg.norm(result.matrix, axis=1, keepdims=True)
    raw = unit @ unit.T
    found = result.neighbours(1)
    weights = f"{read_manifest()['default']}, which are not the papers' AudioSet model"
    print(f"\n{len(result)} sounds, {result.size} floats each; weights: {weights}\n")
    print(f"{'sound':20}  {'seconds':>7}  {'most similar':20}  similarity  raw cosine")
    for row in range(0, len(result), SHOWN):
        [other], [cosine] = found.indices[row], found.cosines[row]
        print(f"{names[row]:20}  {result.durations[row]:7.2f}  {names[other]:20}  {cosine:10.2f}  {raw[row, other]:10.2f}")
    kinds = np.array([name.partition("/")[0] for name in names])
    alike = int((kinds == kinds[found.indices[:, 0]]).sum())
    different = raw[~np.eye(len(names), dtype=bool)]
    print(f"\nFor {alike} of {len(names)}, the most similar is of the same kind. Raw cosines of different sounds are")
    print(f"{different.min():.2f} to {different.max():.2f}; similarity is centred on {found.centred_on}.\n")
    command("map", folder / "embeddings", "-o", folder / "map.html")
    print(f"Open {folder / 'map.html'} in a browser: it shows which sounds lie together, and a click plays one.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
