"""The tests of the kernels, on the device where there is one, with as many workers as are of use."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.checks import Checks, rehearsing

WORKERS, SECONDS = 4, 170.0
REHEARSED = ["tests/kernels/test_norm_cuda.py", "-k", "constant_row or recorded_only"]


def tested(folder: Path) -> dict[str, dict[str, Any]]:
    """The outcome of every test, as the states of checks."""
    results = folder / "results.xml"
    command = [sys.executable, "-m", "pytest", "-p", "benchmarks.gpu.missing", "-p", "no:cacheprovider", "-q", "-ra"]
    command += [f"--junitxml={results}", "--tb=short", *(REHEARSED if rehearsing() else ["tests/kernels"])]
    if importlib.util.find_spec("xdist") and not rehearsing():
        command += ["-n", str(min(WORKERS, len(os.sched_getaffinity(0))))]
    subprocess.run(command, check=False)  # noqa: S603 - our own
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):  # noqa: S314 - pytest's own
        bad = [child for child in case if child.tag in ("failure", "error")]
        name = f"{str(case.get('classname')).rpartition('.')[2]}: {case.get('name')}"
        found[name] = {"state": "failed" if bad else "passed"}
        if bad:
            found[name]["error"] = str(bad[0].get("message")).splitlines()[0][:300]
    return found


def main() -> None:
    """Run the tests."""
    checks = Checks()

    def run() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            found = tested(Path(folder))
        failed = {name: entry for name, entry in found.items() if entry["state"] == "failed"}
        for name, entry in failed.items():
            checks.found[name] = {**entry, "seconds": 0.0}
        if failed or not found:
            raise AssertionError(f"{len(failed)} of {len(found)} tests failed")
        return {"tests that passed": len(found)}

    checks.run("all tests", run, SECONDS)
    checks.end()


if __name__ == "__main__":
    main()
