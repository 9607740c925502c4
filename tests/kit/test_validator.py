"""The real hear-validator passes for every variant's module."""

import subprocess
import sys
from pathlib import Path

import pytest

from hear_axlstm.config import VARIANTS

pytestmark = pytest.mark.kit


def test_the_command_passes(tiny_weights):
    validator = Path(sys.executable).with_name("hear-validator")
    command = [validator, "hear_axlstm.axlstm_tiny", "--model", tiny_weights("axlstm-tiny"), "--device", "cpu"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().endswith("Looks good!")


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_every_variant_passes_without_a_complaint(size, tiny_weights):
    modules = {variant: f"hear_axlstm.{variant.replace('-', '_')}" for variant in VARIANTS if size in variant}
    arguments = [f"{module}={tiny_weights(variant)}" for variant, module in modules.items()]
    result = subprocess.run([sys.executable, "-m", "tests.kit.validate", *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for module in modules.values():
        assert f"passed: {module}" in result.stdout
    assert "Your timestamps" not in result.stderr
    assert "We suggest" not in result.stderr
