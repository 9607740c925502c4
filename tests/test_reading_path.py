"""What somebody reads who wants to know how an embedding comes about, and the walls around it."""

import ast
import sys
from pathlib import Path

import pytest

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import BLOCKS, Encoder
from tests.conftest import noise

PACKAGE = Path(hear_axlstm.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
CORE = {"version", "errors", "storage", "config", "ops", "frontend", "patches", "blocks", "encoder", "embedder", "hear"}
CORE_WEIGHTS = {"hear_axlstm.weights", "hear_axlstm.weights.load", "hear_axlstm.weights.find"}
WINGS = {"quota", "parallel", "progress", "audio", "centring", "stream", "files", "explore", "classification"} | {
    "finetuning",
    "synthesis",
    "pretraining",
    "evaluation",
    "doors",
    "cli",
}
LINES, CLASSES, CALLS, SMALL = 1_500, 24, 5, 40


def room(module):
    """ "ops" of "hear_axlstm.ops.scan"."""
    return module.split(".")[1] if "." in module else ""


def imported(path, *, at_the_top):
    """The modules of the package that a file imports, when it is imported or at any time."""
    tree = ast.parse(path.read_text())
    for node in tree.body if at_the_top else ast.walk(tree):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} has a relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hear_axlstm"):
            yield from (
                name for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)) if name in MODULES
            )
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def reading_path():
    """The files from the HEAR functions to the arithmetic, loading included: what ``hear`` imports at the top, and so on."""
    found, waiting = set(), ["hear_axlstm.hear"]
    while waiting:
        module = waiting.pop()
        if module in found or module == "hear_axlstm":
            continue
        found.add(module)
        parents = [module.rpartition(".")[0]] if module.count(".") > 1 else []
        waiting += [*imported(MODULES[module], at_the_top=True), *parents]
    return {module: MODULES[module] for module in found}


def test_the_reading_path_is_short():
    files = reading_path()
    lines = sum(len(path.read_text().splitlines()) for path in files.values())
    classes = sum(
        isinstance(node, ast.ClassDef) for path in files.values() for node in ast.walk(ast.parse(path.read_text()))
    )
    assert lines <= LINES
    assert classes <= CLASSES


@pytest.mark.parametrize(
    "config",
    [AxLSTMConfig(width=16, depth=1), SSAMConfig(width=16, depth=1), SSASTConfig(width=16, depth=1, heads=2)],
    ids=lambda config: config.family,
)
def test_few_functions_lie_between_the_api_and_a_block(config):
    """A call of our own functions, the API's and the block's counted, as it runs where nothing makes it faster."""
    model, audio, chains = hear_axlstm.Embedder(Encoder(config)), noise(1, 20_000), []
    block = BLOCKS[config.family].forward.__code__

    def watch(frame, event, _argument):
        if event == "call" and frame.f_code is block:
            chain = []
            while frame is not None:
                if frame.f_code.co_filename.startswith(str(PACKAGE)):
                    chain.append(frame.f_code.co_qualname)
                frame = frame.f_back
            chains.append(chain)

    sys.setprofile(watch)
    try:
        hear_axlstm.get_scene_embeddings(audio, model)
    finally:
        sys.setprofile(None)
    assert chains
    assert max(map(len, chains)) <= CALLS, chains


def test_the_core_imports_no_wing_and_no_kernel():
    for module, path in MODULES.items():
        if room(module) in CORE or module in CORE_WEIGHTS:
            others = {name for name in imported(path, at_the_top=True) if room(name) in WINGS | {"kernels"}}
            assert not others, f"{module} imports {', '.join(others)}"


def test_kernels_stand_on_operations_and_facts_alone():
    for module, path in MODULES.items():
        if room(module) == "kernels":
            others = {
                name
                for name in imported(path, at_the_top=False)
                if room(name) not in {"kernels", "ops", "config", "errors", "parallel"}
            }
            assert not others, f"{module} imports {', '.join(others)}"


def test_kernels_are_found_by_name():
    for module, path in MODULES.items():
        if room(module) != "kernels":
            assert not any(room(name) == "kernels" for name in imported(path, at_the_top=False)), module


def test_pretraining_and_evaluation_never_import_each_other():
    for one, other in (("pretraining", "evaluation"), ("evaluation", "pretraining")):
        for module, path in MODULES.items():
            if room(module) == one:
                assert not any(room(name) == other for name in imported(path, at_the_top=False)), module


def test_a_small_file_is_a_face_a_variant_a_block_or_an_operation():
    for module, path in MODULES.items():
        if len(path.read_text().splitlines()) < SMALL:
            is_face = path.stem in {"__init__", "__main__", "version", "errors"}
            is_one_of_many = path.parent.name in {"hear", "blocks", "ops", "xares"}
            assert is_face or is_one_of_many, f"{module} is small: let it join what it belongs to"
