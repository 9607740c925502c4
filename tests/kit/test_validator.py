"""The real hear-validator passes for every variant's module."""

import subprocess
import sys
from pathlib import Path

import pytest

from hear_axlstm.config import MIN_SAMPLES, VARIANTS

pytestmark = pytest.mark.kit


def test_the_command_passes(random_weights):
    validator = Path(sys.executable).with_name("hear-validator")
    command = [validator, "hear_axlstm.hear.axlstm_tiny", "--model", random_weights("axlstm-tiny"), "--device", "cpu"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().endswith("Looks good!")


def test_timestamps_pass_at_every_length(random_weights):
    edges = [MIN_SAMPLES, 239, 240, 241, 320, 639, 640, 879, 880, 881, 31_839, 31_840, 31_999, 32_000, 32_001, 64_000]
    samples = [str(count) for count in edges + list(range(1_000, 100_000, 9_973))]
    command = [
        sys.executable,
        "-m",
        "tests.kit.validate_lengths",
        "hear_axlstm.hear.ssast_tiny",
        random_weights("ssast-tiny"),
    ]
    result = subprocess.run([*command, *samples], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines() if line.startswith("passed: ")] == samples
    assert "Your timestamps" not in result.stderr


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_every_variant_passes_without_a_complaint(size, random_weights):
    modules = {variant: f"hear_axlstm.hear.{variant.replace('-', '_')}" for variant in VARIANTS if size in variant}
    arguments = [f"{module}={random_weights(variant)}" for variant, module in modules.items()]
    result = subprocess.run([sys.executable, "-m", "tests.kit.validate", *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for module in modules.values():
        assert f"passed: {module}" in result.stdout
    assert "Your timestamps" not in result.stderr
    assert "We suggest" not in result.stderr
