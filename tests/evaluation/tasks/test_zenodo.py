"""Archives from a Zenodo on localhost that breaks in every way that the real one is known to."""

import shutil
import subprocess
import sys
import threading
from collections import namedtuple

import numpy as np
import pytest

from hear_axlstm.errors import ConfigError, OutputError, TaskError
from hear_axlstm.evaluation.tasks import zenodo as module
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS
from hear_axlstm.evaluation.tasks.zenodo import Patience, download_tasks, read_record
from tests.evaluation.tasks.zenodo_server import Running
from tests.processes import wait_until

BEIJING, TONIC = "beijing_opera-v1.0-hear2021-full", "mridangam_tonic-v1.5-full"
ARCHIVES = {name: KNOWN_TASKS[name].archive for name in (BEIJING, TONIC)}
SIZE = 100_000
QUICK = Patience(tries=4, pause=0.001, longest=0.01, timeout=60)


@pytest.fixture
def zenodo(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Running() as zenodo:
        rng = np.random.default_rng(0)
        zenodo.files = {archive: rng.bytes(SIZE) for archive in ARCHIVES.values()} | {"LICENSE.txt": b"free"}
        yield zenodo


@pytest.fixture
def fetch(zenodo, tmp_path):
    def fetch(*names, **options):
        return download_tasks(names or [BEIJING], tmp_path / "archives", api=zenodo.api, patience=QUICK, **options)

    return fetch


@pytest.fixture
def there(tmp_path):
    """What is in the folder, by name."""
    return lambda: {path.name: path.read_bytes() for path in (tmp_path / "archives").iterdir()}


def archives_of(zenodo, *names):
    return {ARCHIVES[name]: zenodo.files[ARCHIVES[name]] for name in names}


@pytest.mark.parametrize("form", ["today", "before 2023", "InvenioRDM"])
def test_archives_arrive_whole_whichever_form_the_record_has(zenodo, fetch, there, tmp_path, form):
    zenodo.form = form
    result = fetch(TONIC, BEIJING)
    assert result.archives == {name: tmp_path / "archives" / ARCHIVES[name] for name in (TONIC, BEIJING)}
    assert not result.failures
    assert there() == archives_of(zenodo, TONIC, BEIJING)


@pytest.mark.parametrize(
    "links",
    [
        {"self": "{record}/files/{name}"},
        {"self": "{record}/files/elsewhere", "content": "{record}/files/{name}/content"},
        {"self": "{record}/files/elsewhere", "download": "{record}/files/{name}/content"},
        {"other": "{record}"},
    ],
)
def test_the_description_of_a_file_is_not_taken_for_its_content(zenodo, fetch, there, links):
    names = {"record": f"{zenodo.api}/{module.RECORD}", "name": ARCHIVES[BEIJING]}
    zenodo.links = {key: link.format(**names) for key, link in links.items()}
    fetch()
    assert there() == archives_of(zenodo, BEIJING)


def test_a_broken_connection_is_taken_up_where_it_broke(zenodo, fetch, there):
    zenodo.truncate = 30_000
    assert not fetch().failures
    assert zenodo.starts == [0, 30_000, 60_000, 90_000]
    assert there() == archives_of(zenodo, BEIJING)


def test_the_next_call_continues_what_a_failed_one_left(zenodo, fetch, there):
    zenodo.truncate, zenodo.breaks = 10_000, QUICK.tries
    result = fetch()
    assert "ended at byte 40,000 of 100,000; given up after 4 tries" in result.failures[BEIJING]
    assert not result.archives
    assert there() == {f"{ARCHIVES[BEIJING]}.part": zenodo.files[ARCHIVES[BEIJING]][:40_000]}
    fetch()
    assert zenodo.starts[-1] == 40_000
    assert there() == archives_of(zenodo, BEIJING)


def test_a_line_that_breaks_often_but_carries_much_is_not_given_up(zenodo, fetch, there, monkeypatch):
    monkeypatch.setattr(module, "PROGRESS", 5_000)
    zenodo.truncate = 6_000
    assert not fetch().failures
    assert len(zenodo.starts) == 17
    assert there() == archives_of(zenodo, BEIJING)


def test_a_line_that_carried_much_and_is_dead_now_is_given_up(zenodo, tmp_path, monkeypatch):
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        assert len(waits) < 20, "it goes on for ever"
        if len(waits) == 3:
            zenodo.answers = [(500, {})] * 100

    monkeypatch.setattr(module, "PROGRESS", 5_000)
    monkeypatch.setattr(module, "sleep", sleep)
    zenodo.truncate = 6_000
    result = download_tasks([BEIJING], tmp_path, api=zenodo.api, patience=Patience(tries=4, pause=1))
    assert "answers 500 Internal Server Error; given up after 4 tries" in result.failures[BEIJING]
    assert waits == [1, 1, 1, 2, 4]


def test_a_server_that_ignores_ranges_is_asked_for_the_whole(zenodo, fetch, there):
    zenodo.truncate, zenodo.breaks, zenodo.ranges = 30_000, 2, False
    assert not fetch().failures
    assert zenodo.starts == [0, 0, 0]
    assert there() == archives_of(zenodo, BEIJING)


def test_a_busy_server_is_waited_for(zenodo, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module, "sleep", waits.append)
    busy = [(500, {}), (503, {"Retry-After": "30"}), (429, {"Retry-After": "soon"}), (503, {"Retry-After": "3600"})]
    zenodo.answers = list(busy)
    result = download_tasks([BEIJING], tmp_path, api=zenodo.api, patience=Patience(tries=5, pause=1, longest=100))
    assert not result.failures
    assert waits == [1, 30, 4, 100], "doubled from try to try, or what the server asks for, within limits"


def test_a_missing_file_is_not_asked_for_again_and_does_not_stop_the_others(zenodo, fetch, there):
    zenodo.answers = [(404, {})]
    result = fetch(BEIJING, TONIC)
    assert list(result.failures) == [BEIJING]
    assert "the server answers 404" in result.failures[BEIJING]
    assert sum(ARCHIVES[BEIJING] in path for path in zenodo.requests) == 1
    assert there() == archives_of(zenodo, TONIC)


def test_wrong_bytes_are_deleted_and_fetched_once_more(zenodo, fetch, there, caplog):
    zenodo.corrupt = 1
    assert not fetch().failures
    assert zenodo.starts == [0, 0]
    assert "but the record says" in caplog.text
    assert there() == archives_of(zenodo, BEIJING)


def test_bytes_that_stay_wrong_are_not_kept(zenodo, fetch, there):
    zenodo.corrupt = 2
    result = fetch(BEIJING, TONIC)
    assert "its md5 is" in result.failures[BEIJING]
    assert there() == archives_of(zenodo, TONIC)


@pytest.mark.parametrize(("said", "reason"), [(SIZE - 1, "the record says 99,999"), (SIZE + 1, "100,001|byte 100,000")])
def test_a_size_that_is_not_the_records_is_noticed(zenodo, fetch, there, said, reason):
    zenodo.sizes = {ARCHIVES[BEIJING]: said}
    failures = fetch().failures
    assert any(part in failures[BEIJING] for part in reason.split("|"))
    assert ARCHIVES[BEIJING] not in there()


def test_half_a_listing_is_asked_for_again(zenodo, fetch):
    zenodo.listings = 2
    assert not fetch().failures


def test_a_record_that_stays_damaged_or_silent_is_told(zenodo, fetch):
    zenodo.listings = 1_000
    with pytest.raises(TaskError, match="the answer is not whole"):
        fetch()
    with pytest.raises(TaskError, match="no connection"):
        read_record(api="http://127.0.0.1:9", patience=QUICK)


def test_something_else_than_a_record_is_told(zenodo, fetch, monkeypatch):
    monkeypatch.setattr(zenodo, "record", lambda number: {"hits": []})
    with pytest.raises(TaskError, match="not a Zenodo record"):
        fetch()


def test_only_the_web_is_fetched_from(zenodo, fetch, tmp_path):
    (tmp_path / "secret").write_bytes(b"x")
    zenodo.links = {"self": f"file://{tmp_path}/secret"}
    with pytest.raises(TaskError, match="not a web address"):
        fetch()


def test_an_archive_that_the_record_lacks_is_told_with_what_it_has(zenodo, fetch, there):
    result = fetch("gunshot_triangulation-v1.0-full", TONIC)
    assert "LICENSE.txt" in result.failures["gunshot_triangulation-v1.0-full"]
    assert there() == archives_of(zenodo, TONIC)


def test_what_is_there_is_not_asked_for(zenodo, fetch):
    fetch()
    before = list(zenodo.requests)
    again = fetch()
    assert zenodo.requests == before
    assert (again.skipped, list(again.archives)) == ([BEIJING], [BEIJING])
    assert fetch(BEIJING, TONIC).skipped == [BEIJING]
    assert zenodo.starts == [0, 0]


def test_nothing_is_fetched_onto_a_disk_that_is_too_small(zenodo, fetch, there, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(2 * SIZE - 1))
    with pytest.raises(
        OutputError, match=r"archives need 0\.00 GB, then the tasks at 16 kHz about 0\.22 GB more; 0\.00 GB are"
    ):
        fetch(BEIJING, TONIC)
    assert not zenodo.starts
    assert not there()


def test_what_an_earlier_call_got_needs_no_room(zenodo, fetch, tmp_path, monkeypatch):
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / f"{ARCHIVES[BEIJING]}.part").write_bytes(zenodo.files[ARCHIVES[BEIJING]][:60_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(40_000))
    assert not fetch().failures
    assert zenodo.starts == [60_000]


def test_a_disk_too_small_for_the_prepared_tasks_is_only_warned_of(zenodo, fetch, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(10 * SIZE))
    assert not fetch().failures
    assert "prepare them on another disk" in caplog.text


def test_unknown_names_are_refused_with_those_there_are(fetch, zenodo):
    with pytest.raises(ConfigError, match=r"no task is called 'esc-50'; there are .*esc50-v2\.0\.0-full"):
        fetch("esc-50")
    assert not zenodo.requests


DOWNLOAD = """
import sys
from pathlib import Path
from hear_axlstm.evaluation.tasks.zenodo import download_tasks
download_tasks(sys.argv[3:], Path(sys.argv[1]), api=sys.argv[2])
"""


def test_a_killed_download_is_continued(zenodo, fetch, there, tmp_path):
    zenodo.files[ARCHIVES[BEIJING]] = np.random.default_rng(1).bytes(1_000_000)
    zenodo.go_on = threading.Event()
    part = tmp_path / "archives" / f"{ARCHIVES[BEIJING]}.part"
    run = subprocess.Popen([sys.executable, "-c", DOWNLOAD, tmp_path / "archives", zenodo.api, BEIJING])
    wait_until(lambda: part.is_file() and part.stat().st_size, run)
    run.kill()
    run.wait()
    got = part.stat().st_size
    assert 0 < got < 1_000_000
    zenodo.go_on.set()
    assert not fetch().failures
    assert zenodo.starts == [0, got]
    assert there() == archives_of(zenodo, BEIJING)
