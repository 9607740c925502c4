"""How fast and how right an index answers: a million embeddings, and what was found against comparing with every one.

    python -m benchmarks.search [--count 1000000] [--spread 0.5 --spread 0.9] [--like FOLDER]

No machine here has a million recordings, so that vectors are drawn around real embeddings of the bundled weights: each is a
real one, centred, mixed with a draw from the normal distribution that has the covariance of all. ``spread`` is the share of
the draw: 0 repeats the real ones, 1 is the normal distribution alone, in which nothing is near anything. (In isotropic
noise, which is not like embeddings, no index works.) The queries are other draws.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import click
import numpy as np
import torch

import hear_axlstm
from benchmarks.records import RESULTS, add_record, installed_version, machine, rows_table
from hear_axlstm.centring import Array, Centring, centring_of
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.explore.collection import Collection, Embeddings, Made
from hear_axlstm.explore.index import Index
from hear_axlstm.parallel import processors
from hear_axlstm.synthesis import Kind
from hear_axlstm.synthesis.corpus import random_clip

CLIPS, SECONDS = 300, 4.0  # of each kind of synthesised sound
QUERIES, EXACT_QUERIES, K = 500, 20, 10
BLOCK = 16_384


def real_embeddings(folder: Path | None) -> Array:
    """Centred embeddings of sounds, of length 1: those in a folder that embed wrote, or of synthesised clips."""
    if folder is not None:
        result = hear_axlstm.load_embeddings(folder)
        return Centring.from_facts(result.centring).directed(result.matrix[result.ok])
    clips = [random_clip(kind, 0, index, SECONDS) for kind in get_args(Kind) for index in range(CLIPS)]
    model = hear_axlstm.load_model()
    centring = centring_of(model)
    assert centring is not None
    return centring.directed(hear_axlstm.embed(clips, model, sample_rate=SAMPLE_RATE).matrix)


def drawn(real: Array, count: int, spread: float, seed: int) -> Iterator[Embeddings]:
    """Vectors around real ones, (n, D) a block, of length 1, with their numbers as names."""
    _, strengths, directions = np.linalg.svd(real - real.mean(0), full_matrices=False)
    shape = torch.from_numpy((directions * (strengths / np.sqrt(len(real)))[:, None]).astype(np.float32))
    generator, sounds = torch.Generator().manual_seed(seed), torch.from_numpy(real)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        around = sounds[torch.randint(len(sounds), (size,), generator=generator)]
        vectors = (1 - spread**2) ** 0.5 * around + spread * (torch.randn(size, len(shape), generator=generator) @ shape)
        names = [f"{number:07}.wav" for number in range(start, start + size)]
        yield names, [""] * size, torch.nn.functional.normalize(vectors, dim=1).numpy()


def measure(real: Array, count: int, spread: float, folder: Path) -> dict[str, Any]:
    """A row: the time to build, to load and to answer, and how much of the exact answer is found."""
    size = real.shape[1]
    nothing = Centring(np.zeros(size, np.float32), np.zeros((0, size), np.float32), np.zeros(0, np.float32), "nothing")
    began = perf_counter()
    Index.written(Collection(partial(drawn, real, count, spread, 0), Made(), nothing), folder)
    built = perf_counter() - began
    began = perf_counter()
    index = Index.load(folder)
    loaded = perf_counter() - began
    queries = np.concatenate([matrix for _, _, matrix in drawn(real, QUERIES, spread, 1)])
    times = []
    found = []
    for query in queries:
        began = perf_counter()
        found.append(index.query(query, K).indices[0])
        times.append(perf_counter() - began)
    exact_times = []
    for query in queries[:EXACT_QUERIES]:
        began = perf_counter()
        index.query(query, K, exact=True)
        exact_times.append(perf_counter() - began)
    began = perf_counter()
    exact = index.query(queries, K, exact=True)
    together = perf_counter() - began
    recall = np.mean([len(set(one) & set(other)) / K for one, other in zip(found, exact.indices, strict=True)])
    files = sum(path.stat().st_size for path in folder.iterdir())
    vectors = sum(path.stat().st_size for path in folder.glob("vectors-*"))
    return {
        "embeddings": count,
        "spread": spread,
        "cosine of the 10th": round(float(np.median(exact.cosines[:, -1])), 2),
        "threads": processors(),
        "build s": round(built),
        "load ms": round(1e3 * loaded, 1),
        "first query ms": round(1e3 * times[0], 1),
        "query ms, median": round(1e3 * float(np.median(times)), 2),
        "query ms, 99 %": round(1e3 * float(np.quantile(times, 0.99)), 2),
        "exact query ms": round(1e3 * float(np.median(exact_times)), 1),
        "exact, 500 at once, ms each": round(1e3 * together / QUERIES, 2),
        "recall@10": round(float(recall), 4),
        "vectors MB": round(vectors / 1e6),
        "all files MB": round(files / 1e6),
        "peak memory MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--count", "counts", multiple=True, type=click.IntRange(100), default=[1_000_000], help="Embeddings.")
@click.option(
    "--spread", "spreads", multiple=True, type=click.FloatRange(0, 1), default=[0.5, 0.9], help="Share of the draw."
)
@click.option("--like", type=click.Path(path_type=Path), help="Draw around the embeddings in this folder.")
@click.option("--work", type=click.Path(path_type=Path), help="Put the index into this folder, not into a temporary one.")
def main(counts: tuple[int, ...], spreads: tuple[float, ...], like: Path | None, work: Path | None) -> None:
    """Build indices of so many embeddings, and measure how they answer."""
    torch.set_num_threads(processors())
    real, rows = real_embeddings(like), []
    for count in counts:
        for spread in spreads:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                rows.append(measure(real, count, spread, Path(folder) / "bench.index"))
                click.echo(rows_table(rows[-1:]))
    facts = {"usearch": installed_version("usearch"), "real embeddings": len(real), "search": rows}
    add_record(RESULTS / "search.json", {**machine(torch.device("cpu")), **facts})


if __name__ == "__main__":
    main()
