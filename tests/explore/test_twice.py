"""What is in a collection twice, and what is far from everything."""

import csv

import numpy as np
import pytest

import hear_axlstm
from hear_axlstm import Index, duplicates
from hear_axlstm.errors import ConfigError
from hear_axlstm.explore import index as module
from tests.explore.test_index import by_own_mean, vectors

__all__ = ["by_own_mean"]


def copies(count=60, size=32):
    """Embeddings, some of which are there again, nearly the same: 0 is 50 and 51, 1 is 52; 7 is like nothing."""
    matrix = np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)
    matrix[[50, 51]] = matrix[0] + 1e-3
    matrix[52] = 2 * matrix[1]
    return matrix - matrix.mean(0)


def test_copies_are_pairs_and_groups(by_own_mean):
    found = duplicates(copies(), above=0.9)
    assert {tuple(pair) for pair in found.pairs.tolist()} == {(0, 50), (0, 51), (50, 51), (1, 52)}
    assert found.groups() == [[0, 50, 51], [1, 52]]
    assert (np.diff(found.cosines) <= 0).all()
    assert (found.cosines > 0.99).all()
    assert "4 pairs of 60 sounds above 0.9" in repr(found)
    assert len(duplicates(copies(), above=0.9999999)) == 0


def test_every_pair_is_that_of_the_table_of_similarities(by_own_mean):
    matrix = vectors(2_100)  # more than one block of rows
    matrix[5] = np.nan
    index = Index.build(matrix)
    found, table = duplicates(index, above=0.85), index.neighbours(1)
    assert found.closeness == pytest.approx(table.cosines[:, 0], abs=1e-6, nan_ok=True)
    assert found.nearest[5] == -1
    directed = index.centring.directed(np.delete(matrix, 5, 0)).astype(np.float16).astype(np.float32)
    cosines = np.triu(directed @ directed.T, 1)
    assert len(found) == pytest.approx((cosines > 0.85).sum(), abs=2)
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()
    assert len(np.unique(found.pairs, axis=0)) == len(found)


def test_a_thousand_equal_sounds_are_one_group(by_own_mean):
    matrix = np.concatenate([np.ones((1_200, 32), np.float32), vectors(20)])
    found = duplicates(matrix)
    assert len(found.groups()[0]) == 1_200
    assert len(found) <= 100 * 1_220


def test_a_graph_finds_the_same_copies(by_own_mean, monkeypatch):
    pytest.importorskip("usearch")
    exact = duplicates(copies(), above=0.9)
    monkeypatch.setattr(module, "SCANNED", 50)
    near = duplicates(copies(), above=0.9)
    assert near.pairs.tolist() == exact.pairs.tolist()
    assert near.closeness == pytest.approx(exact.closeness, abs=1e-5)


def test_the_lonely_are_far_from_all_others(by_own_mean):
    matrix = vectors(300, noise=0.05)
    matrix[7] = 3 + np.random.default_rng(5).normal(size=32)
    matrix[8] = np.nan
    found = duplicates(matrix)
    assert found.lonely(1) == [7]
    assert len(found.lonely(1_000)) == 299
    alone = duplicates(hear_axlstm.embed([np.random.default_rng(0).uniform(-1, 1, 8_000)], sample_rate=16_000))
    assert (len(alone), alone.lonely(), alone.groups()) == (0, [], [])


def test_the_table_has_pairs_and_the_lonely(by_own_mean, tmp_path):
    index = Index.build(copies(), names=["a,\n", '"', "m\udce4", *map(str, range(57))])
    found = duplicates(index, above=0.9)
    frame = found.to_frame(odd=2)
    assert frame["kind"].tolist() == ["twice"] * 4 + ["odd"] * 2
    found.write_csv(tmp_path / "pairs.csv", odd=2)
    with open(tmp_path / "pairs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows[:4]].count("a,\n") == 2
    assert list(rows[0]) == ["kind", "cosine", "name", "other", "path", "other_path"]


def test_a_bad_threshold_is_refused():
    for above in (1, -2, float("nan"), "high", None):
        with pytest.raises(ConfigError, match="expected a cosine"):
            duplicates(vectors(20), above)
