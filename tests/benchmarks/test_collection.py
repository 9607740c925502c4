"""A large folder is what a run leaves, and is measured as one."""

from benchmarks.collection import measure, write_folder
from hear_axlstm.files.load import read_blocks


def test_a_folder_is_written_and_measured(tmp_path):
    write_folder(tmp_path / "out", 250, per_part=100)
    found = measure(tmp_path / "out", 250)
    assert (found["rows"], found["files"], found["table_bytes_a_row"]) == (250, 3, 37)
    assert [len(block.names) for block in read_blocks(tmp_path / "out")] == [100, 100, 50]
