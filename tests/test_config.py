"""The table of variants, and options that do not fit."""

import pytest
import torch

from hear_axlstm.config import VARIANTS, AxLSTMConfig, SSAMConfig, SSASTConfig, config_from_dict, variant_config
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError

PUBLISHED_PARAMETERS = {
    "axlstm-tiny": 4_343_584,
    "axlstm-small": 16_723_360,
    "axlstm-base": 65_591_968,
    "axlstm-tiny-e2": 2_917_408,
    "axlstm-small-e2": 11_216_800,
    "axlstm-base-e2": 43_962_016,
    "ssam-tiny": 4_760_512,
    "ssam-small": 17_889_088,
    "ssam-base": 69_250_624,
    "ssast-tiny": 5_401_024,
    "ssast-small": 21_492_544,
    "ssast-base": 85_747_264,
}


def parameters(config):
    with torch.device("meta"):
        return sum(p.numel() for p in Encoder(config).parameters())


@pytest.mark.parametrize(("variant", "count"), PUBLISHED_PARAMETERS.items())
def test_trainable_parameters_are_the_papers(variant, count):
    assert parameters(VARIANTS[variant]) == count


def test_expansion_four_has_the_papers_parameters():
    assert parameters(AxLSTMConfig(width=192, expansion=4)) == 5_769_760


def test_the_table_has_the_published_variants_and_no_others():
    assert VARIANTS.keys() == PUBLISHED_PARAMETERS.keys()


@pytest.mark.parametrize(("width", "size"), [(192, 960), (384, 1920), (768, 3840)])
def test_embedding_sizes(width, size):
    assert SSAMConfig(width=width).embedding_size == size


@pytest.mark.parametrize("config", [*VARIANTS.values(), SSAMConfig(width=48, depth=3, patch=(8, 16), bidirectional=True)])
def test_a_configuration_survives_json(config):
    assert config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AxLSTMConfig(width=190), "width is 190"),
        (lambda: AxLSTMConfig(width=192, patch=(3, 16)), r"patch is \(3, 16\)"),
        (lambda: AxLSTMConfig(width=192, depth=0), "depth is 0"),
        (lambda: AxLSTMConfig(width=192, expansion=0), "expansion is 0"),
        (lambda: AxLSTMConfig(width=192, input_gate="relu"), "expected one of 'exp', 'sigmoid'"),
        (lambda: SSASTConfig(width=192, heads=5), "divisor of the width 192"),
        (lambda: config_from_dict({"family": "lstm", "width": 192}), "axlstm, ssam, ssast"),
        (lambda: config_from_dict({"family": "ssam", "width": 192, "flip": True}), "ssam has no option flip"),
        (lambda: config_from_dict({"family": "ssast", "width": 192}), "heads"),
        (lambda: variant_config("axlstm-huge"), "axlstm-tiny, axlstm-small"),
    ],
)
def test_bad_options_say_what_was_expected(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
