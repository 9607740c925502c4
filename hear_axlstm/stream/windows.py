"""The samples of a sound as they come -> stretches of it that hold whole analysis windows, mirrored at its true ends."""

from __future__ import annotations

import numpy as np

from hear_axlstm.audio import Wave
from hear_axlstm.config import HOP, N_FFT

EDGE = N_FFT // 2  # samples that are mirrored at each end
NOTHING = np.zeros(0, np.float32)


class Windows:
    """A window of 400 samples around every 160th sample, given out when the last of its samples has come.

        samples so far    0 ------------------------- 1000
        windows           -200..199, -40..359, 120..519, 280..679, 440..839, 600..999
        kept              760 .. 1000, from where the next one begins

    multiple: windows are given out so many at a time, or a multiple of that; at the end what is left. samples: how many
    came. rest: those from the next window on, the mirrored ones included.
    """

    def __init__(self, multiple: int = 1) -> None:
        self.multiple, self.samples = multiple, 0
        self.rest: Wave = NOTHING

    def push(self, samples: Wave) -> Wave:
        """The stretch of the windows that these samples complete, 400 + 160 (n - 1) samples of n windows, or nothing."""
        before, self.samples = self.samples, self.samples + len(samples)
        wave = np.concatenate([self.rest, samples])
        if before <= EDGE < self.samples:
            wave = np.concatenate([wave[EDGE:0:-1], wave])
        elif self.samples <= EDGE:  # not yet enough to mirror the beginning
            self.rest = wave
            return NOTHING
        return self._cut(wave, self.multiple)

    def end(self) -> Wave:
        """The stretch of the windows that are left when the sound ends here, of which there are at least 201 samples."""
        missing = self.samples // HOP * HOP + EDGE - self.samples  # of the last window, around the last 160th sample
        return self._cut(np.concatenate([self.rest, self.rest[-2 : -2 - missing : -1]]), 1)

    def so_far(self) -> tuple[int, int]:
        """How many windows were given out one by one, and how many samples are left, by the number of those that came."""
        count = (self.samples - EDGE) // HOP + 1
        return (count, self.samples + EDGE - count * HOP) if self.samples > EDGE else (0, self.samples)

    def _cut(self, wave: Wave, multiple: int) -> Wave:
        count = max(0, (len(wave) - N_FFT) // HOP + 1) // multiple * multiple
        self.rest = wave[count * HOP :].copy()
        return wave[: (count - 1) * HOP + N_FFT] if count else NOTHING
