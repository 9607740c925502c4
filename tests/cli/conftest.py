"""The command, in this process."""

import pytest
from click.testing import CliRunner

from hear_axlstm.cli import main


@pytest.fixture
def run():
    def run(*arguments, **options):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)

    return run
