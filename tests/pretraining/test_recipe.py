"""Recipes: the papers' numbers by default, ablations by name, files that change them, and the learning rate's course."""

import pytest

from hear_axlstm.config import VARIANTS, AxLSTMConfig, SSAMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.recipe import Recipe, Schedule, read_recipe, recipe_names

TINY = AxLSTMConfig(width=32, depth=2)


def test_the_defaults_are_the_papers():
    recipe = read_recipe("axlstm-tiny", shards=("audioset",))
    assert recipe.encoder == VARIANTS["axlstm-tiny"]
    assert (recipe.epochs, recipe.warmup_epochs, recipe.batch) == (100, 10, 1024)
    assert (recipe.weight_decay, recipe.betas, recipe.mask_ratio) == (0.05, (0.9, 0.95), 0.5)
    assert recipe.lr == pytest.approx(1.5e-4 * 1024 / 256)
    assert recipe.synthetic_share == 0


def test_every_variant_has_a_recipe_of_its_name():
    for name, encoder in VARIANTS.items():
        if not name.endswith(("small-e2", "base-e2")):  # released, but in no paper
            assert read_recipe(name).encoder == encoder


# Tables 3 to 5 of the AxLSTM paper, 2 to 4 of the SSAM paper; parameters where they are printed or known.
ABLATIONS = {
    "axlstm-tiny-e2": ({"expansion": 2, "flip": True, "input_gate": "exp"}, 2_917_408),
    "axlstm-tiny-e3-flip": ({"expansion": 3, "flip": True, "input_gate": "exp"}, 4_343_584),
    "axlstm-tiny-e4-flip": ({"expansion": 4, "flip": True}, 5_769_760),
    "axlstm-tiny-e2-patch8x16": ({"patch": (8, 16), "expansion": 2, "flip": True}, None),
    "axlstm-tiny-e2-patch4x8": ({"patch": (4, 8), "expansion": 2, "flip": True}, None),
    "axlstm-tiny-e2-noflip": ({"expansion": 2, "flip": False, "input_gate": "exp"}, 2_917_408),
    "axlstm-tiny-e2-sigmoid": ({"expansion": 2, "flip": True, "input_gate": "sigmoid"}, 2_917_408),
    "axlstm-tiny-e2-noflip-sigmoid": ({"expansion": 2, "flip": False, "input_gate": "sigmoid"}, 2_917_408),
    "axlstm-tiny-e3-flip-sigmoid": ({"expansion": 3, "flip": True, "input_gate": "sigmoid"}, 4_343_584),
    "axlstm-tiny-e3-noflip-sigmoid": ({"expansion": 3, "flip": False, "input_gate": "sigmoid"}, 4_343_584),
    "ssam-tiny-patch8x16": ({"family": "ssam", "patch": (8, 16)}, None),
    "ssam-tiny-patch4x8": ({"family": "ssam", "patch": (4, 8)}, None),
    "ssam-tiny-bidirectional": ({"family": "ssam", "bidirectional": True}, None),
    "ssast-tiny-patch8x16": ({"family": "ssast", "patch": (8, 16)}, None),
    "ssast-tiny-patch4x8": ({"family": "ssast", "patch": (4, 8)}, None),
    "ssast-tiny": ({"family": "ssast", "heads": 3}, 5_401_024),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_what_its_name_says(name):
    expected, parameters = ABLATIONS[name]
    encoder = read_recipe(name).encoder
    assert {option: getattr(encoder, option) for option in expected} == expected
    assert (encoder.width, encoder.depth) == (192, 12)
    if parameters is not None:
        assert sum(p.numel() for p in Encoder(encoder).parameters()) == parameters


@pytest.mark.parametrize("family", ["ssam", "ssast"])
def test_fractions_of_the_data_are_recipes(family):
    assert [read_recipe(f"{family}-tiny-data{percent}").subset for percent in (10, 25)] == [0.1, 0.25]


def test_a_file_changes_a_named_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "axlstm-tiny-e2"\nbatch = 64\nshards = ["a", "b/*.tar"]\n[encoder]\nflip = false\ndepth = 6\n')
    recipe = read_recipe(path, steps=10, seed=None)
    assert recipe.encoder == AxLSTMConfig(width=192, expansion=2, depth=6)
    assert (recipe.batch, recipe.shards, recipe.steps, recipe.seed) == (64, ("a", "b/*.tar"), 10, 0)


def test_a_file_may_do_without_a_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('steps = 5\n[encoder]\nfamily = "ssam"\nwidth = 64\n')
    assert read_recipe(path) == Recipe(encoder=SSAMConfig(width=64), steps=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = 3", "the encoder is missing"),
        ('base = "axlstm-huge"', "base is 'axlstm-huge'; expected one of axlstm-tiny"),
        ('base = "axlstm-tiny"\nlearning_rate = 1', "no field is called learning_rate; there are base_lr"),
        ('base = "axlstm-tiny"\nencoder = { flop = true }', "axlstm has no option flop"),
        ('base = "axlstm-tiny"\nbatch = "many"', "batch is 'many'; expected a whole number"),
        ('base = "axlstm-tiny"\nbatch = true', "batch is True; expected a whole number"),
        ('base = "axlstm-tiny"\nshards = "folder"', "shards is 'folder'; expected a list of strings"),
        ('base = "axlstm-tiny"\nmask_ratio = 1.0', "mask_ratio is 1.0; expected a share of the patches"),
        ('base = "axlstm-tiny"\nsynthetic = 0.5', "shards is ..; expected some when synthetic is below 1"),
        (
            'base = "axlstm-tiny"\ngrowth = [6, 3, 12]',
            "growth is .6, 3, 12.; expected numbers of blocks that rise",
        ),
        (
            'base = "axlstm-tiny"\ngrowth = [3, 6]',
            "growth is .3, 6.; expected numbers of blocks that rise",
        ),
        ('base = "axlstm-tiny"\ngrowth = [3, 12]\ncompile = true', "compile is True; expected false in a run with growth"),
        ('base = "axlstm-tiny"\nsubset = 0', "subset is 0; expected above 0"),
        ('base = "axlstm-tiny"\nloss = "visible"', "loss is 'visible'; expected one of 'masked', 'all'"),
        ('base = "axlstm-tiny"\nwarmup_epochs = 101', "warmup_epochs is 101; expected 0 to 100"),
        ('base = "axlstm-tiny"\nema = 1.0', "ema is 1.0"),
        ('base = "axlstm-tiny"\nseed = -1', "seed is -1; expected 0 or more"),
        ("base = ", "expected TOML"),
    ],
)
def test_a_bad_file_is_told_with_its_name(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_recipe(path)
    assert "bad.toml" in str(caught.value)


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(ConfigError, match="neither a file nor a recipe; there are axlstm-tiny, "):
        read_recipe("axlstm-huge")


def test_a_recipe_is_json_and_says_all_that_differs():
    values = read_recipe("ssam-tiny-data25", steps=3).to_dict()
    assert values["encoder"]["family"] == "ssam"
    assert (values["subset"], values["steps"], values["betas"], values["shards"]) == (0.25, 3, [0.9, 0.95], [])


def test_the_learning_rate_warms_up_over_a_tenth_and_falls_as_a_cosine_to_zero():
    schedule = Schedule.of(Recipe(encoder=TINY, epoch_clips=10_240, batch=1024), shard_clips=0)
    assert (schedule.warmup, schedule.total) == (100, 1_000)
    assert [schedule.at(step) for step in (0, 50, 100)] == pytest.approx([0, schedule.lr / 2, schedule.lr])
    assert schedule.at(550) == pytest.approx(schedule.lr / 2)
    assert 0 < schedule.at(999) < 1e-5 * schedule.lr


def test_steps_keep_the_share_of_the_warmup():
    assert Schedule.of(Recipe(encoder=TINY, steps=50), shard_clips=0).warmup == 5


def test_an_epoch_is_what_the_shards_hold_and_the_subset_leaves():
    recipe = Recipe(encoder=TINY, shards=("x",), subset=0.25, batch=100)
    assert Schedule.of(recipe, shard_clips=40_000).total == 100 * 10_000 // 100


def test_a_run_without_a_length_is_refused():
    with pytest.raises(ConfigError, match="nothing says how long this run is; give steps"):
        Schedule.of(Recipe(encoder=TINY), shard_clips=0)


def test_every_recipe_can_be_read():
    assert len(recipe_names()) == len({read_recipe(name, synthetic=1.0).to_dict().__repr__() for name in recipe_names()})
