"""What all commands have in common: help that is whole, and words that can be said aloud."""

import click
import pytest

from hear_axlstm.cli import main
from hear_axlstm.cli.common import there_already


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


def test_commands_of_a_group_are_listed_in_the_order_of_their_use(run):
    lines = [line.split()[0] for line in run("tasks", "--help").output.partition("Commands:\n")[2].splitlines()]
    assert lines == ["list", "download", "prepare", "check", "generate", "make"]


@pytest.mark.parametrize(("count", "said"), [(0, "0 were"), (1, "1 was"), (2, "2 were")])
def test_what_was_there_already_is_told_with_a_verb(count, said):
    assert there_already(count) == f"{said} there already"


@pytest.mark.parametrize(
    ("command", "names"), [one for one in EVERY if "out" in {option.name for option in one.values[0].params}]
)
def test_where_to_write_is_always_an_option(command, names):
    [out] = [option for option in command.params if option.name == "out"]
    assert out.opts == ["-o", "--out"]
