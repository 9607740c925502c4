"""The package reads from top to bottom: a module imports only what stands above it."""

from tests.test_reading_path import MODULES, imported, room

ORDER = [
    "version", "errors", "storage", "quota", "parallel", "progress", "config", "ops", "kernels", "frontend", "patches",
    "blocks", "encoder", "embedder", "weights", "hear", "audio", "centring", "stream", "files", "explore", "classification",
    "finetuning", "synthesis", "pretraining", "evaluation", "doors", "cli",
]  # fmt: skip
FACES = {"hear_axlstm", "hear_axlstm.__main__"}


def test_every_import_points_up_the_page():
    for module in MODULES.keys() - FACES:
        for target in set(imported(MODULES[module], at_the_top=False)) - FACES:
            later = ORDER.index(room(target)) > ORDER.index(room(module))
            assert not later, f"{module} imports {target}, which comes later in the pipeline"
