"""Which recordings of scripts/open_sound.py are set apart from training, and the tasks that they make."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path

import click
from open_packages import Recording

from hear_axlstm.audio import Wave, read_audio, write_flac
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.storage import replacing, write_text

LONGEST = 5.0  # seconds of a clip
MOST = 900  # clips of a task
FEWEST = {"phrases": 9, "languages": 15}  # clips of a class; of other tasks:
FEW = 6
MOST_LETTERS = 20

# Voice packs that share no recording with those that are left: Classic and Default do, in other encodings.
PACKS = "British Default_es Default_pl Default_ru HillBilly Mobster Pirate Robot Russian Surfer".split()

PIECES, CUTS, PARTS = 5, 9, 3  # pieces of a package, clips of a piece, and parts of it that hold together
PIECE_SECONDS = (75.0, 300.0)  # pieces of other lengths are trained on
VARIANT = re.compile(
    r"enhanced|track3\.|menu|dynamictest|frantic|battle|defeat|victory|olympics|theme|sdmusic|sixtyfour|van_m", re.I
)

EFFECTS = {  # by what their files are called; the first that fits counts
    "birds": r"stamps/animals/birds/|Tropical Bird",
    "mammals": r"stamps/animals/m|blackcat|\d (Sheep|Cow|Horse|Tropical)",
    "water": r"/(\w*splash|water|Droplet|Parkland\w*Lake)[^/]*$|-fontain|\d Splat|[Bb]ubble|planewater|beewater|toilet",
    "fire": r"/(small|Fire(?!St)|fire(?!punch|works|truck))[^/]*$|flame|molotov|blowtorch|explosion-fire",
    "vehicles": r"/ugv/diesel|RailTrain|Trafic|/\w*plane\.ogg|\d [^/]*(rain station|[Bb]us|ruck|plane|[Jj]et|Helicopter)",
    "explosions": r"[Ee]xplo|rocket-exp|mortar|fireworks|\d (Crash|Big crash)",
    "energy weapons": r"(laser|plasma|ptl-|taser|psiattack)[^/]*$",
    "guns": r"/weapons/bullet|/combat-gun|/(shotgunfire|minigun|gun)\.ogg|cannon-fire|grenade-launcher",
    "reloading": r"reload|grenade-pin",
    "footsteps": r"/footsteps/|/steps\.ogg",
    "men in pain": r"/(soldiers|civilians)/(civ)?male|/hell_(ow|ooff|ugh)",
    "women in pain": r"/(soldiers|civilians)/(civ)?fem",
    "creatures": r"/aliens/",
    "machines": r"/ambience/(alien|engine|hum|machine|minepump|droning|wind_turb)|Mining machinery|IndustryHigh|PowerCoal",
    "breaking": r"/misc/break",
    "signals": r"/(geoscape|ui)/",
}
DRUMS = {  # by what their instruments are called
    "kick": r"kick|bass ?drum",
    "snare": r"snare",
    "closed hat": r"(hh|hat).*\bcl(osed|\b)|closed.*(hh|hat)",
    "open hat": r"(hh|hat).*\bop(en(ed)?\b|\b)|\bopen.*(hh|hat)",
    "pedal hat": r"(hh|hat).*\b(pedal|pd\b)|pedal.*(hh|hat)",
    "tom": r"\btom",
    "crash": r"crash",
    "ride": r"\bride",
    "clap": r"clap",
}


@dataclass(frozen=True)
class Clip:
    """A sound of a task. group: what must not be divided between learning and testing. start: in seconds."""

    recording: Recording
    label: str
    group: str
    start: float = 0.0


def set_apart(recordings: list[Recording]) -> tuple[dict[str, list[Clip]], set[Path]]:
    """The clips of every task, and the files that no training may hear: those of the tasks, and more that are like them."""
    packages = defaultdict(list)
    for recording in recordings:
        packages[recording.package].append(recording)
    phrases = _named(
        packages["hedgewars-data"], rf"/voices/(?P<label>(?P<pack>{'|'.join(PACKS)}))/(?P<group>[^/]+?)\d*\.ogg"
    )
    words = [
        clip
        for clip in _named(
            packages["tuxpaint-stamps-default"], r"/(?P<group>[^/]+?)(_desc)?_(?P<label>[a-z]{2}(_[A-Z]{2})?)\.\w+$"
        )
        if _draw(word := _word(clip.group)) % 4 == 0
        for clip in [replace(clip, group=word)]
    ]
    pieces = [piece for name in sorted(packages) for piece in _pieces(packages[name])]
    cuts = [clip for piece in pieces for clip in _cuts(piece)]
    samples = _named(packages["sonic-pi-samples"], r"/samples/(?P<label>[a-z]+)_(?P<group>[^/]+)\.flac")
    effects = _effects(recordings)
    tasks = {
        "phrases": [replace(clip, label=clip.group, group=clip.label) for clip in phrases],
        "voices": phrases,
        "languages": words,
        "pieces": cuts,
        "styles": [replace(clip, label=clip.recording.package, group=clip.label) for clip in cuts],
        "effects": effects,
        "samples": samples,
        "letters": _letters(packages["klettres-data"]),
        "drums": _drums(packages["hydrogen-drumkits"] + packages["hydrogen-data"]),
    }
    apart = {clip.recording.path for clips in tasks.values() for clip in clips}
    apart |= {sound.path for sound in packages["sonic-pi-samples"]}
    return {name: _balanced(clips, FEWEST.get(name, FEW)) for name, clips in tasks.items()}, apart


def write_tasks(tasks: dict[str, list[Clip]], folder: Path) -> None:
    """Write the clips of every task as FLAC, and its table, after which the task is whole."""
    for name, clips in tasks.items():
        table = folder / f"{name}.csv"
        if table.exists():
            continue
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(["path", "label", "group"])
        path, wave = Path(), read_audio(clips[0].recording.path)
        for clip in sorted(clips, key=lambda clip: (clip.recording.path, clip.start)):
            if clip.recording.path != path:
                path, wave = clip.recording.path, read_audio(clip.recording.path)
            sound = f"sound/{clip.recording.package}/{_draw(f'{clip.recording.place} {clip.start}'):016x}.flac"
            _write(wave[round(clip.start * SAMPLE_RATE) :][: round(LONGEST * SAMPLE_RATE)], folder / sound)
            writer.writerow([sound, clip.label, clip.group])
        write_text(table, rows.getvalue())
        classes, groups = len({clip.label for clip in clips}), len({clip.group for clip in clips})
        click.echo(f"{name}: {len(clips)} clips, {classes} classes, {groups} groups")


def _write(wave: Wave, path: Path) -> None:
    if not path.exists():  # of another task
        with replacing(path) as temporary, open(temporary, "wb") as file:
            write_flac(file, wave)


def _draw(text: str) -> int:
    """A number that looks random and depends on the text alone."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _named(recordings: Iterable[Recording], pattern: str) -> list[Clip]:
    """The recordings whose place has the pattern, labelled and grouped by its parts of these names."""
    found = [(recording, re.search(pattern, recording.place)) for recording in recordings]
    return [Clip(recording, names["label"], names["group"]) for recording, names in found if names]


def _word(stamp: str) -> str:
    """What is said of a stamp, as far as its name tells: letters and things come in several pictures."""
    return re.sub(r"(_filled|_outline|[_-]?\d+|_left|_right)+$", "", stamp.removeprefix("asl_")).lower() or stamp


def _pieces(package: list[Recording]) -> list[Recording]:
    """The pieces of music of a package that are set apart, if it has many: none of which there may be another version."""
    low, high = PIECE_SECONDS
    music = [sound for sound in package if sound.kind == "music"]
    fit = [sound for sound in music if low < sound.seconds < high and not VARIANT.search(Path(sound.place).name)]
    drawn = sorted(fit, key=lambda sound: _draw(sound.place)) if len(music) > 2 * PIECES else []
    return list(islice(filter(_is_whole, drawn), PIECES))


def _is_whole(sound: Recording) -> bool:
    """Whether a file can be read to its end."""
    try:
        return len(read_audio(sound.path)) > 0
    except AudioError:
        return False


def _cuts(piece: Recording) -> list[Clip]:
    """Clips spread over a piece of music, without its first and last seconds; neighbours are in one group."""
    name = f"{piece.package} {Path(piece.place).stem}"
    step = (piece.seconds - 2 * LONGEST) / CUTS
    starts = [LONGEST + (number + 0.5) * step - LONGEST / 2 for number in range(CUTS)]
    return [Clip(piece, name, f"{name} {number * PARTS // CUTS}", round(start, 2)) for number, start in enumerate(starts)]


def _effects(recordings: list[Recording]) -> list[Clip]:
    """Half the effects of every kind; each is a group of its own."""
    kinds = defaultdict(list)
    for sound in recordings:
        kind = next((kind for kind, name in EFFECTS.items() if re.search(name, sound.place)), None)
        if kind and sound.kind == "effects" and sound.package != "sonic-pi-samples":
            kinds[kind].append(Clip(sound, kind, f"{sound.package} {sound.place}"))
    drawn = {kind: sorted(clips, key=lambda clip: _draw(clip.group)) for kind, clips in kinds.items()}
    return [clip for clips in drawn.values() for clip in clips[: len(clips) // 2]]


def _letters(recordings: list[Recording]) -> list[Clip]:
    """The letters from A to Z, in the languages that have most of them, by the languages' lists."""
    by_path = {recording.path: recording for recording in recordings}
    clips = []
    for listed in sorted({recording.path.parents[1] / "sounds.xml" for recording in recordings}):
        if not listed.is_file():
            continue
        own = []
        for entry in ElementTree.parse(listed).iterfind(".//alphabet/sound"):  # noqa: S314 - its sha256 is known
            sound = by_path.get(listed.parents[1] / entry.get("file", ""))
            if sound and re.fullmatch("[A-Z]", letter := entry.get("name", "").upper()):
                own.append(Clip(sound, letter, listed.parent.name))
        clips += own if len(own) >= MOST_LETTERS else []
    return clips


def _drums(recordings: list[Recording]) -> list[Clip]:
    """The softest and the loudest sound of every drum of a kit, by what the kit calls it."""
    by_path = {recording.path: recording for recording in recordings}
    clips = []
    for kit in sorted(
        {recording.path.parent for recording in recordings if (recording.path.parent / "drumkit.xml").is_file()}
    ):
        text = (kit / "drumkit.xml").read_text(encoding="utf-8", errors="replace")
        for instrument in re.findall(r"<instrument>.*?</instrument>", text, re.DOTALL):
            name, files = re.search(r"<name>(.*?)</name>", instrument), re.findall(r"<filename>(.*?)</filename>", instrument)
            labels = [drum for drum, pattern in DRUMS.items() if name and re.search(pattern, name[1], re.IGNORECASE)]
            sounds = [by_path[kit / file] for file in files if kit / file in by_path]
            if len(labels) == 1 and sounds:
                clips += [Clip(sound, labels[0], kit.name) for sound in dict.fromkeys((sounds[0], sounds[-1]))]
    return clips


def _balanced(clips: list[Clip], fewest: int) -> list[Clip]:
    """At most MOST clips: all of small classes, and as many of the large ones; without classes of fewer than ``fewest``."""
    classes = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: _draw(f"{clip.recording.place} {clip.start}")):
        classes[clip.label].append(clip)
    kept = [own for own in classes.values() if len(own) >= fewest]
    each = MOST // max(1, len(kept))
    return [clip for own in kept for clip in own[:each]]
