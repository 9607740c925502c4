"""Synthesise spoken words, music and noise, embed them with the command, and print which sound resembles which.

Raw cosines are all alike, so the package removes what all sounds share first; they stand beside it.

    python examples/demo.py [FOLDER]

Words come from espeak-ng when it is installed, else from a few harmonics shaped by formants.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

import hear_axlstm
from hear_axlstm.weights.find import read_manifest

RATE = 22_050  # on purpose not the encoder's: the command resamples
RNG = np.random.default_rng(0)
FORMANTS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "o": (570, 840, 2410)}  # Hz
WORDS = {"mama": "aa", "kiwi": "ii", "cocoa": "oo"}


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
    """Nine sounds of three kinds; the kind is the first word of the name."""
    sounds = {}
    for text in WORDS:
        for pitch in (110, 200) if text == "mama" else (150,):
            sounds[f"speech {text} {pitch}"] = lambda path, text=text, pitch=pitch: word(text, pitch, path)
    sounds["music plucked major"] = lambda _: plucked([60, 64, 67, 72])
    sounds["music plucked minor"] = lambda _: plucked([57, 60, 64, 69, 72])
    sounds["noise wind"] = lambda _: filtered_noise(3.0, -1.0, lambda t: 1 + 0.8 * np.sin(2 * np.pi * 0.4 * t))
    sounds["noise hiss"] = lambda _: filtered_noise(2.2, 0.0, np.ones_like)
    sounds["noise train"] = lambda _: filtered_noise(2.6, -0.5, lambda t: np.sin(2 * np.pi * 3 * t).clip(0) ** 4)
    for name, make in sounds.items():
        path = folder / f"{name.replace(' ', '_')}.wav"
        wave = make(path)
        if wave is not None:
            soundfile.write(path, 0.5 * wave / np.abs(wave).max(), RATE)


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "sounds").mkdir(parents=True)
    synthesise(folder / "sounds")
    command = [sys.executable, "-m", "hear_axlstm", "embed", folder / "sounds", "-o", folder / "embeddings"]
    subprocess.run(command, check=True)

    files = sorted((folder / "embeddings").glob("*.embedding.npy"))
    names = [path.name.removesuffix(".wav.embedding.npy").replace("_", " ") for path in files]
    embeddings = np.stack([np.load(path) for path in files])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    raw = unit @ unit.T
    found = hear_axlstm.neighbours(embeddings, 1)
    weights = f"{read_manifest()['default']}, which are not the papers' AudioSet model"
    print(f"\n{len(names)} sounds, {embeddings.shape[1]} floats each; weights: {weights}\n")
    print(f"{'sound':22}  {'seconds':>7}  {'most similar':22}  similarity  raw cosine")
    for row, (name, (other,), (cosine,)) in enumerate(zip(names, found.indices, found.cosines, strict=True)):
        duration = soundfile.info(folder / "sounds" / f"{name.replace(' ', '_')}.wav").duration
        print(f"{name:22}  {duration:7.2f}  {names[other]:22}  {cosine:10.2f}  {raw[row, other]:10.2f}")
    different = raw[~np.eye(len(names), dtype=bool)]
    print(f"\nRaw cosines of different sounds are {different.min():.2f} to {different.max():.2f}; similarity is centred on")
    print(f"{found.centred_on}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
