"""What README and documentation say runs: their Python, their commands, their make targets, their links."""

import itertools
import re
import shlex
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile

import hear_axlstm
from hear_axlstm import errors
from hear_axlstm.cli import main
from hear_axlstm.weights.find import read_manifest
from scripts.reference import API, COMMANDS, pages

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(page, language):
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


def prose(page):
    return BLOCK.sub("", page.read_text())


def command_lines(page):
    lines = "".join(blocks(page, "shell")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in line.partition(" #")[0].split(" && ")]
    return [re.sub(r"^torchrun .* -m hear_axlstm ", "hear-axlstm ", part.strip()) for part in parts]


def of_pages(values):
    return [pytest.param(value, id=f"{page.relative_to(ROOT)}:{value}") for page in PAGES for value in values(page)]


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= 1_300


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run one after the other, beside a folder of recordings."""
    rng = np.random.default_rng(0)
    for name, rate in (("a.wav", 16_000), ("more/b.flac", 44_100)):
        path = tmp_path / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, rate), rate)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for text in blocks(page, "python"):
        exec(compile(text, str(page), "exec"), namespace)


def test_the_reference_has_every_public_name():
    reference = (ROOT / "docs/reference/api.md").read_text()
    public = [name for name in hear_axlstm.__all__ if name not in vars(errors) and name != "__version__"]
    assert [name for name in public if f"hear_axlstm.{name}" not in reference] == []


@pytest.mark.parametrize("page", [COMMANDS, API], ids=lambda page: page.name)
def test_the_reference_says_what_the_package_says(page, monkeypatch):
    """Words are compared, not lines: where help is wrapped differs between versions of click."""
    monkeypatch.setenv("COLUMNS", "40")
    assert page.read_text().split() == pages()[page].split(), "`python scripts/reference.py` brings it up to date"


def test_the_first_page_has_every_extra():
    table = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs/start.md").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(table) == extras.keys() - {"dev"}


def test_python_that_is_not_run_says_why():
    for page in PAGES:
        for text in blocks(page, "{code-block}"):
            assert text.startswith(":caption: Not run in the tests: "), page


@pytest.mark.parametrize("line", of_pages(lambda page: [x for x in command_lines(page) if x.startswith("hear-axlstm ")]))
def test_commands_parse(line):
    _, *arguments = shlex.split(line)
    command = main
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_use_weights_that_are_there(page):
    """Bundled, or made by a command that the page gives before."""
    bundled = {name for name, entry in read_manifest()["variants"].items() if entry["sources"]["bundled"]}
    made = {"log-mel", "random", *bundled}
    for line in command_lines(page):
        if not line.startswith("hear-axlstm "):
            continue
        words = shlex.split(line)
        for option, value in itertools.pairwise(words):
            if option in ("--model", "--init") and "--module" not in words:
                assert value.removeprefix("random:") in made, line
            made |= {value} if option in ("-o", "--out") else set()
        made |= {words[-1]} if words[1] == "convert" else set()


@pytest.mark.parametrize("name", of_pages(lambda page: re.findall(r"`hear-axlstm ((?:tasks )?[a-z]+)", prose(page))))
def test_commands_that_prose_names_exist(name):
    command = main
    for part in name.split():
        command = command.commands[part]


@pytest.mark.parametrize(
    "target", of_pages(lambda page: re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", page.read_text(), re.M))
)
def test_make_targets_exist(target):
    assert "".join(target) in TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, (
            link
        )
