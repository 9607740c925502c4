"""The commands: damage and read so many files, or one of them again."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from time import monotonic

import click
from tqdm import tqdm

from fuzz import checkpoints, sounds, subjects, weights
from fuzz.case import BAD, Case, Verdict
from fuzz.children import Child
from hear_axlstm.parallel import ordered_map, processors

POISONS = (0xC3, 0x42)  # memory nobody wrote to reads as 0.011 in one process and as -0.093 in the other
MIB = 1 << 20
DETAIL = 500  # characters of what was found, a line each
Finding = tuple[Case, Verdict]


class Lane:
    """The processes that examine one file after the other: two for sounds, which must read the same, one for weights."""

    def __init__(self, folder: Path, children: dict[str, list[Child]] | None = None) -> None:
        self.folder = folder
        folder.mkdir()
        self.children = children or {
            "sound": [Child("fuzz.subjects:sound", folder, 20, 512 * MIB, poison) for poison in POISONS],
            "weights": [Child("fuzz.subjects:weights", folder, 30, 512 * MIB)],
            "checkpoint": [Child("fuzz.subjects:checkpoint", folder, 60, 1024 * MIB)],
        }

    def examine(self, case: Case) -> Verdict:
        """The worst that a process found of a file, or that they do not agree."""
        path = self.folder / f"{case.name}{case.suffix}"
        path.write_bytes(case.data)
        children = self.children[case.subject]
        verdicts = [child.examine(path, case.facts) for child in children]
        if any(verdict.kind == "hang" for verdict in verdicts):  # or the machine was busy
            tqdm.write(f"{case.name}: {children[0].seconds:g} s were not enough; once more", file=sys.stderr)
            verdicts = [child.examine(path, case.facts) for child in children]
        path.unlink()
        if bad := [verdict for verdict in verdicts if verdict.kind in BAD]:
            return bad[0]
        if len({verdict.content for verdict in verdicts}) > 1:
            return Verdict(
                "wrong", "is read differently at each time: " + " / ".join(verdict.detail for verdict in verdicts)
            )
        return verdicts[0]

    def close(self) -> None:
        for children in self.children.values():
            for child in children:
                child.close()


class Lanes:
    """As many lanes as files are examined at once, and what the undamaged files hold."""

    def __init__(self, folder: Path, count: int) -> None:
        self.idle: SimpleQueue[Lane] = SimpleQueue()
        self.all = [Lane(folder / f"lane-{number}") for number in range(count)]
        for lane in self.all:
            self.idle.put(lane)
        self.contents: dict[str, str] = {}

    def examine(self, case: Case) -> Finding:
        """A file and its verdict: one that is read must hold what it was made of, where it must."""
        lane = self.idle.get()
        try:
            verdict = lane.examine(case)
        finally:
            self.idle.put(lane)
        if verdict.kind == "ok" and case.origin and verdict.content != self.contents.get(case.origin):
            verdict = Verdict("wrong", f"is read as something else than {case.origin}: {verdict.detail}")
        return case, verdict

    def examine_good(self, case: Case) -> Finding:
        """An undamaged file, which must be read, and its verdict."""
        _, verdict = self.examine(case)
        self.contents[Path(case.story).name] = verdict.content
        return case, Verdict("good", verdict.detail) if verdict.kind == "refused" else verdict

    def close(self) -> None:
        for lane in self.all:
            lane.close()


def good_cases(with_sounds: bool, with_weights: bool) -> Iterator[Case]:
    """The undamaged files that others are made of."""
    for name, data in sounds.seeds().items() if with_sounds else ():
        yield Case("sound", f"good-{Path(name).stem}", Path(name).suffix, name, data)
    for name, data in weights.seeds().items() if with_weights else ():
        yield Case("weights", f"good-{Path(name).stem}", Path(name).suffix, name, data)
    for name, data in checkpoints.seeds().items() if with_weights else ():
        yield Case("checkpoint", f"good-{Path(name).stem}", ".pth", name, data, {"options": checkpoints.conversion(name)})


def damaged_cases(seed: int, sound_count: int, weights_count: int, until: float) -> Iterator[Case]:
    """As many of both kinds as there is time for, in turns that keep their proportion."""
    total = sound_count + weights_count
    for number in range(total):
        if monotonic() > until:
            return
        before, after = (count * weights_count // total for count in (number, number + 1))
        yield weights.case(seed, before) if after > before else sounds.case(seed, number - before)


@click.group(invoke_without_command=True)
@click.option("--sounds", "sound_count", default=1_500, show_default=True, help="How many sounds to damage.")
@click.option("--weights", "weights_count", default=150, show_default=True, help="How many weights to damage.")
@click.option("--seed", default=0, show_default=True, help="Which ones: the same seed, the same files.")
@click.option("--minutes", default=5.0, show_default=True, help="Stop after so long.")
@click.option("--jobs", type=int, default=processors, help="Files examined at once; as many as processors when left out.")
@click.option("--keep", default=Path("fuzz/found"), type=click.Path(path_type=Path), help="Folder for what was found.")
@click.pass_context
def main(
    context: click.Context, sound_count: int, weights_count: int, seed: int, minutes: float, jobs: int, keep: Path
) -> None:
    """Damage sounds and weights, read them, and count what should not have come of it."""
    if context.invoked_subcommand is not None:
        return
    started, counts, read = monotonic(), Counter[str](), Counter[str]()
    damaged = damaged_cases(seed, sound_count, weights_count, started + 60 * minutes)
    good = list(good_cases(sound_count > 0, weights_count > 0))
    with tempfile.TemporaryDirectory() as folder, closing(Lanes(Path(folder), jobs)) as lanes:
        bar = tqdm(total=len(good) + sound_count + weights_count, unit="file")
        for function, cases in ((lanes.examine_good, good), (lanes.examine, damaged)):
            with closing(ordered_map(function, cases, jobs)) as findings:
                for case, verdict in findings:
                    counts[verdict.kind] += 1
                    read["sounds" if case.subject == "sound" else "weights"] += 1
                    if verdict.kind in BAD:
                        record(case, verdict, keep)
                        tqdm.write(f"{case.name}: {verdict.kind}: {case.story}: {verdict.detail[:300]}", file=sys.stderr)
                    bar.update()
        bar.close()
    numbers = [f"{counts[kind]} {words}" for kind, words in ({"ok": "read", "refused": "refused"} | BAD).items()]
    click.echo(
        f"fuzz, seed {seed}: {read['sounds']} sounds and {read['weights']} weights in {monotonic() - started:.0f} s: "
        f"{', '.join(numbers)}"
    )
    sys.exit(any(counts[kind] for kind in BAD))


def record(case: Case, verdict: Verdict, keep: Path) -> None:
    """Keep a file in the folder, and a line about it."""
    keep.mkdir(parents=True, exist_ok=True)
    (keep / f"{case.name}{case.suffix}").write_bytes(case.data)
    with open(keep / "found.txt", "a", encoding="utf-8", errors="backslashreplace") as lines:
        detail = " ".join(verdict.detail.split())[:DETAIL]
        lines.write(f"{case.name}{case.suffix}\t{verdict.kind}\t{case.story}\t{detail}\n")


@main.command("one")
@click.argument("name")
def one_command(name: str) -> None:
    """Write the file of a name that the summary gave (sound-SEED-INDEX) and read it in this process."""
    subject, seed, index = name.split("-")
    case = (sounds if subject == "sound" else weights).case(int(seed), int(index))
    path = Path(f"{case.name}{case.suffix}")
    path.write_bytes(case.data)
    click.echo(f"{path}: {case.story}")
    faulthandler.enable(sys.__stderr__)
    click.echo(getattr(subjects, case.subject)(path.absolute(), **case.facts))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
