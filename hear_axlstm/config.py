"""The fixed front end, the options of the three families, and the one table of variants."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, get_args

from hear_axlstm.errors import ConfigError

Layout = Literal["released", "time"]
DEFAULT_LAYOUT: Layout = "released"  # what the published scores were made with
Precision = Literal["auto", "float32", "float16", "bfloat16"]
InputGate = Literal["exp", "sigmoid"]

SAMPLE_RATE = 16_000  # Hz
N_FFT = 400  # samples: a 25 ms window
HOP = 160  # samples
N_MELS = 80
F_MIN, F_MAX = 50.0, 8_000.0  # Hz
CHUNK_FRAMES = 200  # a chunk of 2 seconds
HOP_MS = 1_000 * HOP // SAMPLE_RATE
MIN_SAMPLES = N_FFT // 2 + 1  # the shortest clip that reflect padding can centre a window on
KINDS: dict[Any, str] = {int: "a whole number", bool: "true or false"}  # of options


def require(condition: bool, message: str, error: type[Exception] = ConfigError) -> None:
    """Raise an error unless ``condition`` holds."""
    if not condition:
        raise error(message)


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise ConfigError unless ``value`` is one of the strings of the Literal type ``choices``."""
    require(value in get_args(choices), f"{name} is {value!r}; expected one of {', '.join(map(repr, get_args(choices)))}")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The options that all families share; use one of the subclasses.

    width: channels D of a token. depth: number of blocks. patch: (frames, mel bands) that make one token.
    """

    family: ClassVar[str]
    width: int
    depth: int = 12
    patch: tuple[int, int] = (4, 16)

    def __post_init__(self) -> None:
        for option in fields(self):
            value, expected = getattr(self, option.name), KINDS.get(option.type)
            require(not expected or type(value) is option.type, f"{option.name} is {value!r}; expected {expected}")
        require(self.width > 0 and self.width % 4 == 0, f"width is {self.width}; expected a positive multiple of 4")
        require(self.depth > 0, f"depth is {self.depth}; expected at least 1 block")
        is_pair = isinstance(self.patch, tuple) and [*map(type, self.patch)] == [int, int] and min(self.patch) > 0
        divides = is_pair and CHUNK_FRAMES % self.patch[0] == N_MELS % self.patch[1] == 0
        require(divides, f"patch is {self.patch}; expected (frames, bands) that divide ({CHUNK_FRAMES}, {N_MELS})")

    @property
    def grid(self) -> tuple[int, int]:
        """Patch columns (time) and rows (frequency) of one chunk."""
        return CHUNK_FRAMES // self.patch[0], N_MELS // self.patch[1]

    @property
    def embedding_size(self) -> int:
        """Floats in a scene or timestamp embedding: the tokens of one step, side by side."""
        return self.grid[1] * self.width

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, the family included; ``config_from_dict`` is the way back."""
        return {"family": self.family, **asdict(self), "patch": list(self.patch)}


@dataclass(frozen=True, kw_only=True)
class AxLSTMConfig(EncoderConfig):
    """AxLSTM (Yadav et al., Interspeech 2025): mLSTM blocks.

    expansion: inner width over width (2, 3 or 4 in the paper). flip: odd blocks read the tokens backwards.
    input_gate: "exp", or "sigmoid" for the paper's Table 5.
    """

    family: ClassVar[str] = "axlstm"
    heads: ClassVar[int] = 4
    expansion: int = 3
    flip: bool = False
    input_gate: InputGate = "exp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("input_gate", self.input_gate, InputGate)
        require(self.expansion > 0, f"expansion is {self.expansion}; expected 1 or more (the paper uses 2, 3 and 4)")
        inner, multiple = self.expansion * self.width, 4 * self.heads  # each head has whole blocks of 4 channels
        require(inner % multiple == 0, f"expansion * width is {inner}; expected a multiple of {multiple}")


@dataclass(frozen=True, kw_only=True)
class SSAMConfig(EncoderConfig):
    """SSAM (Yadav and Tan, Interspeech 2024): Mamba blocks.

    bidirectional: the "Vim" ablation, a second scan over the reversed tokens.
    """

    family: ClassVar[str] = "ssam"
    expansion: ClassVar[int] = 3
    state: ClassVar[int] = 24
    bidirectional: bool = False


@dataclass(frozen=True, kw_only=True)
class SSASTConfig(EncoderConfig):
    """The papers' SSAST baseline: pre-norm transformer blocks. heads: attention heads."""

    family: ClassVar[str] = "ssast"
    heads: int

    def __post_init__(self) -> None:
        super().__post_init__()
        divides = self.heads > 0 and self.width % self.heads == 0
        require(divides, f"heads is {self.heads}; expected a divisor of the width {self.width}")


FAMILIES: dict[str, type[EncoderConfig]] = {c.family: c for c in (AxLSTMConfig, SSAMConfig, SSASTConfig)}


def config_from_dict(values: Mapping[str, Any]) -> EncoderConfig:
    """The configuration that ``to_dict`` wrote.

    Raises ConfigError on an unknown family, and on an option that is unknown or missing.

    >>> config_from_dict({"family": "ssam", "width": 192}).embedding_size
    960
    """
    require(isinstance(values, Mapping), f"the configuration is {values!r:.80}; expected family, width and so on")
    options = dict(values)
    family = options.pop("family", None)
    require(isinstance(family, str) and family in FAMILIES, f"family is {family!r}; expected one of {', '.join(FAMILIES)}")
    known = {f.name for f in fields(FAMILIES[family])}
    unknown = ", ".join(sorted(map(str, options.keys() - known)))
    require(not unknown, f"{family} has no option {unknown}; it has {', '.join(sorted(known))}")
    try:
        patch = options.get("patch", EncoderConfig.patch)
        return FAMILIES[family](**{**options, "patch": tuple(patch) if isinstance(patch, list) else patch})
    except TypeError as error:
        raise ConfigError(f"{family}: {error}") from error


WIDTHS = {"tiny": 192, "small": 384, "base": 768}
# The paper's AxLSTM is E=3 without flip; E=2 with flip is what its authors first released.
VARIANTS: dict[str, EncoderConfig] = {
    **{f"axlstm-{size}": AxLSTMConfig(width=width) for size, width in WIDTHS.items()},
    **{f"axlstm-{size}-e2": AxLSTMConfig(width=width, expansion=2, flip=True) for size, width in WIDTHS.items()},
    **{f"ssam-{size}": SSAMConfig(width=width) for size, width in WIDTHS.items()},
    **{f"ssast-{size}": SSASTConfig(width=width, heads=width // 64) for size, width in WIDTHS.items()},
}


def known_name(name: str, names: Collection[str]) -> str:
    """The one of ``names`` that is meant, whether written with - or _. Raises ConfigError."""
    plain = name.replace("_", "-")
    require(plain in names, unknown(name, names))
    return plain


def unknown(name: str, names: Collection[str]) -> str:
    """That no variant is called ``name``, which is the nearest, and which there are."""
    near = get_close_matches(name.replace("_", "-").lower(), names, 1)
    hint = f"did you mean {near[0]}? There" if near else "there"
    return f"no variant is called {name!r}; {hint} are {', '.join(names)}"


def variant_config(variant: str) -> EncoderConfig:
    """The row of VARIANTS, or a ConfigError that lists the names."""
    return VARIANTS[known_name(variant, VARIANTS)]
