"""Stand-ins for espeak-ng and fluidsynth, found on the PATH instead of the real ones: they note how they were called."""

import json
import os
import sys

import pytest

NOTING = """
import json, math, struct, sys, wave

stdin = sys.stdin.read()
with open({calls!r}, "a") as calls:
    calls.write(json.dumps({{"arguments": sys.argv[1:], "stdin": stdin}}) + "\\n")
"""

ESPEAK = r'''
VOICES = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  af              --/M      Afrikaans          gmw/af
 5  cmn             --/M      Chinese_(Mandarin,_latin_as_English) sit/cmn              (zh-cmn 5)(zh 5)
 2  en-us           --/M      English_(America)  gmw/en-US            (en 3)
 5  eu              --/M      Basque             eu
 5  mi              --/M      M\u0101ori             poz/mi
 5  yue             --/M      Chinese_(Cantonese) sit/yue
 5  yue             --/M      Chinese_(Cantonese,_latin_as_Jyutping) sit/yue-Latn-jyutping (zh-yue 5)(zh 8)
"""
VARIANTS = """Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  variant         --/M      Adam               !v/adam
 5  variant         --/M      Half-LifeAnnouncementSystem !v/announcer
 5  variant         --/M      Mr_Serious         !v/Mr serious
 5  variant         --/M      Robosoft           !v/robosoft
 5  variant         --/M      Storm              !v/Storm             (en-us 5)
 5  variant         30/M      Iven               !v/iven
 5  variant         --/M      Iven2              !v/iven2
 5  variant         --/M      klatt              !v/klatt
 5  variant         --/M      klatt2             !v/klatt2
"""
HEADER = "<4sI4s4sIHHIIHH4sI"

if "--version" in sys.argv:
    print("eSpeak NG text-to-speech: 1.99  Data at: /nowhere")
elif "--voices" in sys.argv:
    sys.stdout.buffer.write(VOICES.replace("\n", "    \n").encode())  # the real tables have spaces there, too
elif "--voices=variant" in sys.argv:
    sys.stdout.buffer.write(VARIANTS.replace("\n", "    \n").encode())
elif sys.argv[sys.argv.index("-v") + 1].startswith("xx"):
    sys.exit("Error: The specified espeak-ng voice does not exist.")
elif stdin:
    samples = [int(9_000 * math.sin(i * len(stdin) / 900)) for i in range(300 * len(stdin))]
    endless = 0x7FFFF000  # bytes, as a program claims that writes to a pipe and cannot go back to the header
    header = (b"RIFF", endless + 36, b"WAVE", b"fmt ", 16, 1, 1, 22_050, 44_100, 2, 16, b"data", endless)
    sys.stdout.buffer.write(struct.pack(HEADER, *header) + struct.pack(f"<{len(samples)}h", *samples))
'''

FLUIDSYNTH = r"""
if "--version" in sys.argv:
    print("FluidSynth runtime version 2.9.9")
else:
    midi = open(sys.argv[-1], "rb").read()
    with wave.open(sys.argv[sys.argv.index("-F") + 1], "wb") as file:
        file.setparams((2, 2, 32_000, 0, "NONE", ""))
        file.writeframes(struct.pack("<hh", 8_000, 4_000) * 16_000 + struct.pack("<hh", len(midi), len(midi)) * 16_000)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make a folder the whole PATH, and a Python program in it; returns a function that tells the program's calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name, program):
        path, calls = folder / name, tmp_path / f"{name}.calls"
        path.write_text(f"#!{sys.executable} -S\n{NOTING.format(calls=str(calls))}\n{program}", encoding="utf-8")
        path.chmod(0o755)
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    return install


@pytest.fixture
def fake_espeak(installed):
    return installed("espeak-ng", ESPEAK)


@pytest.fixture
def fake_fluidsynth(installed):
    return installed("fluidsynth", FLUIDSYNTH)


@pytest.fixture
def fake_soundfont(tmp_path):
    path = tmp_path / "fake.sf2"
    path.write_bytes(b"RIFF" + bytes(4) + b"sfbk" + os.urandom(50))
    return path
