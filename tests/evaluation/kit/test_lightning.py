"""Code for Lightning 1 on Lightning 2: an epoch's outputs, and the GPUs."""

import pytest

from hear_axlstm.evaluation.kit.lightning import calls_epoch_ends, restore_epoch_end, takes_gpus, with_gpus


class Model:
    """For Lightning 1."""

    def __init__(self):
        self.seen = []

    def validation_step(self, batch, batch_idx):
        return batch + batch_idx

    def validation_epoch_end(self, outputs):
        self.seen.append(outputs)


def test_an_epochs_end_sees_what_its_steps_returned():
    model_class = type("Model", (Model,), dict(vars(Model)))
    restore_epoch_end(model_class, "validation")
    assert "validation_epoch_end" not in vars(model_class)
    first, second = model_class(), model_class()
    for batches in ([10, 20], [30]):
        for index, batch in enumerate(batches):
            assert first.validation_step(batch, index) == batch + index
            second.validation_step(-batch, batch_idx=index)
        first.on_validation_epoch_end()
    assert first.seen == [[10, 21], [30]]
    second.on_validation_epoch_end()
    assert second.seen == [[-10, -19, -30]]


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices"),
    [(None, "cpu", 1), (0, "cpu", 1), ([], "cpu", 1), (1, "gpu", 1), ([0], "gpu", [0]), ([2, 3], "gpu", [2, 3])],
)
def test_gpus_become_devices(gpus, accelerator, devices):
    assert with_gpus(dict)(gpus=gpus, max_epochs=3) == {"accelerator": accelerator, "devices": devices, "max_epochs": 3}


def test_lightnings_are_told_apart():
    class Trainer1:
        def __init__(self, gpus=None, max_epochs=None): ...

    class Trainer2:
        def __init__(self, *, accelerator="auto", max_epochs=None): ...

    assert takes_gpus(Trainer1)
    assert not takes_gpus(Trainer2)
    assert calls_epoch_ends(Model)
    assert not calls_epoch_ends(Trainer2)
