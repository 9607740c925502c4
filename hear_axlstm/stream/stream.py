"""One sound as it comes -> its embeddings as soon as these are certain."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hear_axlstm.embedder import Embedder
from hear_axlstm.stream.standards import Learnt, Statistics
from hear_axlstm.stream.streams import Context, Steps, Streams


class Stream:
    """A sound that comes in blocks of any size: timestamp embeddings while it comes, its scene embedding at any time.

    What the pushes and the flush return is together what ``get_timestamp_embeddings`` returns of the whole sound, and
    ``scene()`` what ``get_scene_embeddings`` returns, within 1e-4 in float32, when the statistics are the sound's own.

    AxLSTM without ``flip`` and SSAM in one direction read tokens from left to right. Their state is carried from token to
    token, so that an embedding comes as soon as its patch column is heard, 42.5 ms after a moment at most. SSAST, ``flip``
    and bidirectional encoders need a whole chunk: their embeddings come every 2 seconds, which a line in the log says.

    model: what ``load_model`` returns, which must stay as it is: a stream of a model that changed raises ConfigError. It
    computes no gradients.
    statistics: the mean and deviation that log-mel frames are standardised by, of the whole sound in papers and offline.
    Given, as ``hear_axlstm.statistics(files)`` measures them; "first", those of the first ``seconds``, until which nothing
    comes; or "running", an average over the past, in which a frame that is ``seconds`` old counts 1/e of the present one,
    and which begins with the first second as a whole, until which nothing comes.
    context: "chunk", the encoder begins anew every 2 seconds, as it was trained; "long", an experiment: its state is carried
    on, while positions repeat every 2 seconds.

    Raises ConfigError on options that there are not, and on context="long" where the encoder does not read forward.

    >>> stream = Stream(model, statistics="running")  # doctest: +SKIP
    >>> embeddings, times = stream.push(samples)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Embedder,
        *,
        statistics: Statistics | tuple[float, float] | Learnt,
        seconds: float = 10.0,
        context: Context = "chunk",
    ) -> None:
        self._streams = Streams(model, 1, statistics=statistics, seconds=seconds, context=context)
        self._place = self._streams.start()

    @property
    def latency_ms(self) -> float:
        """How long after a moment has sounded its embedding comes, at most: what must be heard for it, in ms."""
        return self._streams.latency_ms

    def push(self, samples: Any) -> Steps:
        """Take the next samples, and return the steps that are certain now, of which there may be none.

        samples: (n,), n >= 0, mono at 16 kHz: floats in [-1, 1] or int8, int16 or int32, as an array, a tensor or a list.

        Shape: -> embeddings (N, E), float32, on the model's device, and times (N,), float64, in ms. Raises AudioError on
        samples that cannot be analysed, of which nothing is taken then, and ConfigError after ``flush``.
        """
        return self._streams.push({self._place: samples})[self._place]

    def flush(self) -> Steps:
        """End the sound, and return the rest of its steps.

        Raises AudioError where there are fewer than 201 samples.
        """
        return self._streams.flush(self._place)

    def scene(self) -> Tensor:
        """The scene embedding of the sound so far, as if it ended here. Shape: -> (E,), float32.

        It takes as long as the steps to the end of the chunk, at most. Raises AudioError where there are fewer than 201
        samples.
        """
        return self._streams.scene(self._place)

    def state_dict(self) -> dict[str, Tensor]:
        """All that another process needs to go on, in tensors, as safetensors and ``torch.save`` keep them."""
        return self._streams.state_dict(self._place)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where ``state_dict`` was called, with the statistics of then.

        Raises ConfigError where it was with other weights, another layout or context, or the state is damaged.
        """
        self._streams.load_state_dict(self._place, state)
