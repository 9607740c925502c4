"""A small model, and folders of embeddings of both formats, read as a user reads them."""

import numpy as np
import pyarrow.parquet
import pytest

FORMATS = ["npy", "parquet"]


@pytest.fixture
def model(golden):
    return golden("ssast").model()


@pytest.fixture(params=FORMATS)
def format(request):
    return request.param


def parquet_rows(folder):
    """All rows of a data set, as other readers see it."""
    return pyarrow.parquet.read_table(folder).to_pylist() if list(folder.glob("*.parquet")) else []


def held(folder):
    """The embeddings in a folder, by name."""
    if rows := parquet_rows(folder):
        found = {row["name"]: np.array(row["embedding"], np.float32) for row in rows}
        assert len(found) == len(rows), "a name has several rows"
        return found
    suffix = ".embedding.npy"
    paths = [path for path in folder.rglob(f"*{suffix}") if path.is_file()]
    return {path.relative_to(folder).as_posix().removesuffix(suffix): np.load(path) for path in paths}
