"""Weights from and to a Hub on localhost, through the real client in a process of its own (HF_ENDPOINT)."""

import json
import os
import subprocess
import sys

import pytest

from hear_axlstm.config import VARIANTS
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.folder import pack
from hear_axlstm.weights.hub import WEIGHTS_FILE
from hear_axlstm.weights.load import read_header
from tests.weights.hub_server import Running

VARIANT = "axlstm-tiny-e2"
FETCH = """
import json, sys
from hear_axlstm.weights.hub import fetch
from hear_axlstm.errors import WeightsError
try:
    file = json.loads(sys.argv[1])
    print(fetch(file["repo"], file["revision"], file["file"], file["sha256"]))
except WeightsError as error:
    sys.exit(f"error: {error}")
"""


@pytest.fixture
def hub():
    with Running() as hub:
        yield hub


@pytest.fixture
def run(hub, own_cache, tmp_path):
    """Run Python with the Hub client pointed at the local Hub; environment variables as keywords."""
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")  # retries do not wait

    def run(*arguments, **variables):
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": "hf_test",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            **variables,
        }
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def published(hub, random_weights):
    """A repository with the weights of VARIANT: the file of it that a manifest would pin."""
    content = random_weights(VARIANT).read_bytes()
    revision = hub.commit("me/model", {WEIGHTS_FILE: content})
    return pin("me/model", revision, sha256_of(random_weights(VARIANT)), len(content))


def pin(repo, revision, sha256=None, size=None):
    """What a manifest says of a file on the Hub."""
    return {"repo": repo, "revision": revision, "file": WEIGHTS_FILE, "sha256": sha256, "bytes": size}


def fetch(run, file, **variables):
    return run("-c", FETCH, json.dumps(file), **variables)


def blobs(own_cache):
    """The finished files in the Hub client's cache."""
    return [path for path in own_cache.rglob("blobs/*") if path.suffix != ".incomplete"]


def test_a_pinned_file_is_fetched_once_and_verified(hub, run, published, random_weights):
    first = fetch(run, published)
    assert first.returncode == 0, first.stderr
    assert sha256_of(first.stdout.strip()) == published["sha256"]
    hub.requests.clear()
    again = fetch(run, published)
    assert again.stdout == first.stdout
    assert hub.requests == []  # a pinned revision needs no network


def test_download_from_a_users_repository_and_offline_afterwards(hub, run, published):
    command = ("-m", "hear_axlstm", "download")
    online = run(*command, "me/model")
    assert online.returncode == 0, online.stderr
    assert read_header(online.stdout.strip())["config"] == VARIANTS[VARIANT]
    offline = run(*command, "me/model", HF_HUB_OFFLINE="1")
    assert offline.stdout == online.stdout
    pinned = run(*command, f"me/model@{published['revision']}")
    assert pinned.returncode == 0, pinned.stderr


def test_a_repository_is_a_model_like_any_other(run, published, sound_folder, tmp_path):
    result = run("-m", "hear_axlstm", "embed", sound_folder, "-o", tmp_path / "out", "--model", "me/model")
    assert result.returncode == 0, result.stderr


def test_a_wrong_hash_is_refused_and_removed(hub, run, published, own_cache):
    wrong = {**published, "sha256": "0" * 64}
    result = fetch(run, wrong)
    assert result.returncode == 1
    assert "the manifest says 000000000000" in result.stderr
    assert blobs(own_cache) == []
    assert fetch(run, published).returncode == 0


def test_corrupted_bytes_are_refused_and_removed(hub, run, published, own_cache):
    hub.corrupt = True
    for file in (published, pin("me/model", "main")):
        result = fetch(run, file)
        assert result.returncode == 1
        assert "was removed from the cache" in result.stderr
        assert blobs(own_cache) == []
    hub.corrupt = False
    assert fetch(run, published).returncode == 0


def test_a_connection_that_breaks_once_is_resumed(hub, run, published):
    hub.truncate, hub.breaks = 11_000_000, 1  # more than the 10 MB that the client takes at a time
    result = fetch(run, published)
    if result.returncode == 1:  # older clients resume in the next run, newer ones at once
        assert "repeat" in result.stderr
        result = fetch(run, published)
    assert result.returncode == 0, result.stderr
    assert hub.starts[-1] > 0  # what had arrived was not asked for again
    assert sha256_of(result.stdout.strip()) == published["sha256"]


def test_a_download_that_stays_interrupted_is_an_error_and_leaves_nothing(hub, run, published, own_cache):
    hub.truncate = 1_000_000
    result = fetch(run, published)
    assert result.returncode == 1, result.stdout
    assert "error: " in result.stderr
    assert "repeat" in result.stderr
    assert blobs(own_cache) == []
    hub.truncate = None
    assert fetch(run, published).returncode == 0
    assert sha256_of(blobs(own_cache)[0]) == published["sha256"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo": "me/absent"}, "check the names"),
        ({"revision": "0" * 40}, "check the names"),
        ({"file": "other.safetensors"}, "check the names"),
        ({"repo": "not a name/at all"}, "check the names"),
    ],
)
def test_what_is_not_there_is_told(run, published, change, message):
    result = fetch(run, {**published, **change})
    assert result.returncode == 1
    assert message in result.stderr


def test_no_network_is_told(run, published):
    for variables in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        result = fetch(run, published, **variables)
        assert result.returncode == 1
        assert "cannot be reached" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_failing_server_is_told(hub, run, published):
    hub.refuse = 500
    result = fetch(run, published)
    assert result.returncode == 1
    assert "error: me/model@" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_cache_that_cannot_be_written_is_told(run, published, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = fetch(run, published, HF_HUB_CACHE=str(tmp_path / "file" / "cache"))
    assert result.returncode == 1
    assert "set HF_HUB_CACHE" in result.stderr


def test_a_repository_with_another_architecture_is_refused(run, published):
    result = run("-c", "import hear_axlstm; hear_axlstm.load_model('me/model', variant='ssam-tiny')")
    assert result.returncode == 1
    assert "holds AxLSTMConfig" in result.stderr


def test_publish_pushes_a_packed_folder_and_pins_it(hub, run, random_weights, tmp_path):
    weights = random_weights(VARIANT)
    result = run("-m", "hear_axlstm", "publish", VARIANT, "me/new", "--weights", weights)
    assert result.returncode == 0, result.stderr
    files = hub.repos["me/new"][-1]
    assert files[WEIGHTS_FILE] == weights.read_bytes()
    pack(weights, tmp_path / "packed")
    local = {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()}
    assert files.keys() >= local.keys()
    assert {name for name in local if files[name] != local[name]} == {"README.md"}  # which loads it from the Hub
    card = files["README.md"].decode()
    assert 'load_model("me/new")' in card
    assert "random initial values" in card
    pinned = json.loads(result.stdout)["hub"]
    assert fetch(run, pinned).returncode == 0
    wrong = run("-m", "hear_axlstm", "publish", "ssam-tiny", "me/new", "--weights", weights)
    assert wrong.returncode == 1
    assert "but SSAMConfig" in wrong.stderr


def test_publishing_without_permission_or_network_is_told(hub, run, random_weights):
    hub.refuse = 403
    for variables in ({}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        command = ("-m", "hear_axlstm", "publish", VARIANT, "me/new", "--weights", random_weights(VARIANT))
        result = run(*command, **variables)
        assert result.returncode == 1
        assert "not published" in result.stderr
        assert "Traceback" not in result.stderr
