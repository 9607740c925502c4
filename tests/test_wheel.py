"""What pip installs: the package, its manifest and schema, its default weights, and nothing else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from hear_axlstm.version import __version__
from hear_axlstm.weights.find import architecture, list_models, read_manifest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import pathlib, hear_axlstm
from hear_axlstm.weights.find import PACKAGE, manifest_path
here = pathlib.Path.cwd()
for path in (pathlib.Path(hear_axlstm.__file__), PACKAGE / "weights" / "manifest.schema.json", manifest_path()):
    assert path.is_relative_to(here) and path.is_file(), path
print(hear_axlstm.__version__, len(hear_axlstm.list_models()), hear_axlstm.load_model().scene_embedding_size)
"""


def test_the_wheel_works_away_from_the_repository(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert "hear_axlstm/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"hear_axlstm"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    command = [sys.executable, "-c", PROGRAM]
    result = subprocess.run(command, cwd=tmp_path / "installed", env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    size = str(architecture(read_manifest()["default"]).embedding_size)
    assert result.stdout.split() == [__version__, str(len(list_models())), size]
