"""What bars and messages say of times."""

import pytest

from hear_axlstm.progress import duration

HOUR = 3_600


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (600, "10 min"),
        (HOUR, "1 h"),
        (3_700, "1 h 2 min"),
        (9.9 * HOUR, "9 h 54 min"),
        (24.4 * HOUR, "24 h"),
        (31 * HOUR, "31 h"),
        (48 * HOUR, "2 days"),
        (49 * HOUR, "2 days 1 h"),
        ((24 * 400 + 5) * HOUR, "400 days"),
        (24 * 1_024 * HOUR, "1,024 days"),
    ],
)
def test_times_are_said_in_the_units_that_people_say_them_in(seconds, words):
    assert duration(seconds) == words
