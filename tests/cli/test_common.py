"""What all commands have in common: help that is whole, and words that can be said aloud."""

import click
import pytest

from hear_axlstm.cli import main


def commands(group, *names):
    """Every command and group with the words that call it."""
    yield group, names
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)


EVERY = [pytest.param(command, names, id=" ".join(names) or "hear-axlstm") for command, names in commands(main)]


@pytest.mark.parametrize(("command", "names"), EVERY)
def test_every_option_and_command_says_what_it_does(command, names):
    assert command.help
    assert command.help.split("\n\n")[0].rstrip().endswith(".")
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.help.endswith((".", ")")), option.help


@pytest.mark.parametrize(("command", "names"), [one for one in EVERY if one.values[1]])
def test_a_command_is_summed_up_in_one_line_that_is_not_cut(run, command, names):
    help_of_all = run(*names[:-1], "--help").output
    [line] = [line for line in help_of_all.splitlines() if line.split()[:1] == [names[-1]]]
    assert " ".join(command.help.split()).startswith(line.split(maxsplit=1)[1])
    assert len(line) <= 78


@pytest.mark.parametrize(
    ("command", "names"), [one for one in EVERY if "out" in {option.name for option in one.values[0].params}]
)
def test_where_to_write_is_always_an_option(command, names):
    [out] = [option for option in command.params if option.name == "out"]
    assert out.opts == ["-o", "--out"]
