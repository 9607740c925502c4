"""transformers: AutoModel, AutoFeatureExtractor and AutoModelForAudioClassification open our folders.

Importing this module tells transformers of our classes. docs/doors/transformers.md shows their use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from huggingface_hub import CommitInfo, HfApi
from safetensors import safe_open
from torch import Tensor, nn

try:
    import transformers  # whose names are looked up below, when the feature extractor has seen to torchaudio
    from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
    from transformers.utils import can_return_tuple
except ImportError as error:
    raise ImportError(f"transformers is missing or too old ({error}); pip install 'hear-axlstm[transformers]'") from error

from hear_axlstm.config import DEFAULT_LAYOUT, VARIANTS, Layout, check_choice, config_from_dict
from hear_axlstm.doors.feature_extractor import HearAxlstmFeatureExtractor, InPackage
from hear_axlstm.embedder import Embedder, check_audio
from hear_axlstm.encoder import Encoder, Layers
from hear_axlstm.errors import AudioError, ConfigError, OutputError, WeightsError
from hear_axlstm.frontend import SUMS, log_mel
from hear_axlstm.ops.backend import threads_of_a_call
from hear_axlstm.patches import scene_steps, steps_from_tokens, timestamp_steps
from hear_axlstm.storage import write_text
from hear_axlstm.weights.check import HEAD, read_facts
from hear_axlstm.weights.find import WEIGHTS_FILE
from hear_axlstm.weights.folder import AUTO_MAP, MODEL_TYPE, folder_texts
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.save import weights_digest, write_weights

ENCODER = "encoder."  # before the names of an encoder's tensors within a model
CONFIG_FILE, CARD = "config.json", "README.md"
PUSHING = "commit_message", "commit_description", "revision", "create_pr"  # options of a push, beside private and token


class HearAxlstmConfig(InPackage, transformers.PreTrainedConfig):  # type: ignore[misc]
    """What config.json holds. encoder: an ``EncoderConfig.to_dict()``, by default that of axlstm-tiny.

    layout: of the scene embeddings, "released" or "time". hidden_size: floats of an embedding; it follows from the encoder.
    Raises ConfigError on an encoder that there is not.
    """

    model_type: ClassVar[str] = MODEL_TYPE

    encoder: dict[str, Any] | None = None
    layout: str = DEFAULT_LAYOUT
    hidden_size: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.encoder = self.encoder or VARIANTS["axlstm-tiny"].to_dict()
        self.hidden_size = config_from_dict(self.encoder).embedding_size
        kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the classes that remote code gets."""
        return {**super().to_dict(), "auto_map": AUTO_MAP}


class HearAxlstmPreTrainedModel(InPackage, transformers.PreTrainedModel):  # type: ignore[misc]
    """What both models share: the encoder, how it is loaded and saved, and how it embeds."""

    config_class = HearAxlstmConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    _no_split_modules: ClassVar[list[str]] = ["Encoder"]

    def __init__(self, config: HearAxlstmConfig) -> None:
        super().__init__(config)
        check_choice("layout", config.layout, Layout)
        options, dtype = config_from_dict(config.encoder or {}), torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            self.encoder = Encoder(options).to(dtype)  # which leaves norms and gates in float32
            with torch.device("meta"):
                half = Encoder(options).bfloat16().state_dict()
        finally:
            torch.set_default_dtype(dtype)
        self._keep_in_fp32_modules_strict = {ENCODER + name for name, t in half.items() if t.dtype == torch.float32}
        self.origin: dict[str, Any] = {}  # of the weights, where they came from a file

    @property
    def dtype(self) -> torch.dtype:
        """That of the matrices, which ``dtype=`` sets; norms and gates are float32 at least."""
        return self.encoder.patch_embed.weight.dtype

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether training keeps only what enters each block. transformers sets it."""
        return self.encoder.checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        self.encoder.checkpointing = enable

    def freeze_base_model(self) -> None:
        """Keep the encoder as it is in training."""
        self.encoder.requires_grad_(False)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw a new head. An encoder has drawn its own initial values by then."""
        if module is getattr(self, "classifier", None):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def embedder(self) -> Embedder:
        """The encoder with the path from waveform to embedding, which computes as autocast or the weights' dtype say."""
        device = self.encoder.cls_token.device.type
        is_asked = device != "meta" and torch.is_autocast_enabled(device)
        precision = str(torch.get_autocast_dtype(device)).removeprefix("torch.") if is_asked else "float32"
        return Embedder(self.encoder, layout=self.config.layout, precision=precision)  # type: ignore[arg-type]

    def _embedded(self, audio: Tensor, mask: Tensor | None, layers: Layers) -> tuple[Tensor, Tensor]:
        """Scene embeddings (layers, B, E) and timestamps (layers, B, N, E) of one pass through the encoder, float32."""
        own, embedder = check_audio(audio, _lengths(audio, mask)), self.embedder()
        (columns, rows), frames = embedder.encoder.config.grid, embedder.encoder.config.patch[0]
        counts, ends = (
            torch.tensor([count(length, size) for length in own], device=embedder.device)
            for count, size in ((scene_steps, columns), (timestamp_steps, frames))
        )
        whole = [-(-int(count) // columns) * columns for count in counts]  # steps of all chunks that a scene has part in
        dtype, sums = embedder.compute_dtype, SUMS.get(embedder.device.type, torch.float64)
        scenes, timestamps, moments = torch.empty(0), torch.empty(0), torch.arange(max(whole), device=embedder.device)
        with threads_of_a_call(embedder.device):
            mel = log_mel(audio.to(torch.promote_types(dtype, torch.float32)), own)
            for clip, place, steps in embedder.steps(mel, whole, "time", layers):
                if not len(timestamps):
                    shape = steps.shape[0], len(own), max(whole) // columns, columns, steps.shape[-1]
                    timestamps = steps.new_zeros(shape, dtype=torch.float32)
                    scenes = steps.new_zeros(steps.shape[0], len(own), steps.shape[-1], dtype=sums)
                timestamps[:, clip, place] = steps.float()
                tokens, left = steps.unflatten(-1, (rows, -1)).flatten(-3, -2), counts[clip] - place * columns
                steps = (
                    steps_from_tokens(tokens, (columns, rows), embedder.layout)
                    * (moments[:columns] < left[:, None])[..., None]
                )
                scenes = scenes.index_add(1, clip, steps.sum(-2).to(sums))
        timestamps = timestamps.flatten(2, 3) * (moments < ends[:, None])[..., None]
        return (scenes / counts[:, None]).float(), timestamps[:, :, : max(ends)]

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """The model in a folder of ours or a repository of the Hub; arguments as transformers has them.

        Raises WeightsError when the weights are missing, damaged or of another architecture: nothing is ever left at random
        but a new classification head.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        wrong = [f"{name} is missing" for name in sorted(info["missing_keys"]) if not name.startswith(HEAD)]
        wrong += [f"{name} is unknown" for name in sorted(info["unexpected_keys"])]
        if wrong:
            raise WeightsError(f"{model.name_or_path}: {'; '.join(wrong[:5])}; expected what hear-axlstm pack writes")
        return (model, info) if output_loading_info else model

    @staticmethod
    def _load_pretrained_model(
        model: HearAxlstmPreTrainedModel, state_dict: Any, checkpoint_files: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Fill a model with what a weights file holds, once that is verified. transformers calls this."""
        if state_dict is None and checkpoint_files:
            path = Path(checkpoint_files[0])
            encoder, facts = load_weights(path, config_from_dict(model.config.encoder))
            state_dict = {ENCODER + name: tensor for name, tensor in encoder.state_dict().items()}
            if "head" in facts and hasattr(model, "classifier"):
                with safe_open(path, "pt") as file:
                    state_dict |= {HEAD + name: file.get_tensor(HEAD + name) for name in ("weight", "bias")}
            model.encoder.layout, model.encoder.centring = encoder.layout, encoder.centring
            digest = weights_digest(encoder.config, encoder.state_dict())
            model.origin = {"provenance": facts["provenance"], "sha256": facts["sha256"], "weights": digest}
        return transformers.PreTrainedModel._load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Take tensors by their names in a model, or in our files, as Trainer reads them when it resumes."""
        own = {name if name.startswith((ENCODER, HEAD)) else ENCODER + name: tensor for name, tensor in state_dict.items()}
        return super().load_state_dict(own, strict, assign)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write a folder as ``hear_axlstm.pack`` does, which ``load_model`` opens, too. The weights are always one file.

        state_dict: other tensors of this model than its present ones. push_to_hub: send it as well, to repo_id=, with the
        options of ``push_to_hub``. Files of a model that is there are replaced, but for README.md.

        Raises WeightsError on tensors that ``load_model`` would refuse, OutputError when the folder cannot be written.
        """
        if is_main_process:
            tensors = dict(self.state_dict() if state_dict is None else state_dict)
            try:
                self._write(Path(save_directory), tensors)
            except OSError as error:
                raise OutputError(f"{save_directory} cannot be written ({error}); choose another folder") from error
        if push_to_hub:
            known = {name: kwargs[name] for name in ("private", "token", *PUSHING) if name in kwargs}
            self.push_to_hub(kwargs.get("repo_id") or Path(save_directory).name, **known)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, token: str | bool | None = None, **kwargs: Any
    ) -> CommitInfo:
        """Send a folder as ``save_pretrained`` writes it to a repository of the Hub, which is made if it is not there.

        kwargs: commit_message, commit_description, revision and create_pr, as transformers has them. A README.md that is in
        the repository stays. Errors are those of huggingface_hub.
        """
        api = HfApi(token=token, library_name="hear-axlstm")
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        options = {name: kwargs[name] for name in PUSHING if name in kwargs} | {"repo_id": repo}
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = folder_texts(read_facts(Path(folder, WEIGHTS_FILE)), place=repo)[CARD]
            write_text(Path(folder, CARD), card)
            there = api.file_exists(repo, CARD)
            return api.upload_folder(folder_path=folder, ignore_patterns=[CARD] if there else None, **options)

    def _write(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        own = {name.removeprefix(ENCODER): tensor for name, tensor in tensors.items() if not name.startswith(HEAD)}
        options, layout, head = self.encoder.config, self.config.layout, None
        if hasattr(self, "classifier"):
            labels = [str(self.config.id2label[index]) for index in range(self.config.num_labels)]
            facts = {"labels": labels, "problem_type": self.config.problem_type or ""}
            head = facts, {name: tensors[HEAD + name] for name in ("weight", "bias")}
        provenance = self.origin.get("provenance", {})
        digest = weights_digest(options, {name: tensor.detach().cpu() for name, tensor in own.items()})
        if self.origin and digest != self.origin["weights"]:
            name = Path(self.name_or_path).name if os.path.isdir(self.name_or_path) else self.name_or_path
            source = {"name": name, "sha256": self.origin["sha256"], "provenance": provenance}
            provenance = {"finetuned_from": source, "with": "transformers"}
        centring = self.encoder.centring if layout == self.encoder.layout else None
        write_weights(options, own, folder / WEIGHTS_FILE, provenance, layout=layout, centring=centring, head=head)
        for name, text in folder_texts(read_facts(folder / WEIGHTS_FILE)).items():
            if name != CONFIG_FILE and not (name == CARD and (folder / CARD).exists()):
                write_text(folder / name, text)
        self.config.architectures, self.config.dtype = [type(self).__name__], self.dtype
        write_text(folder / CONFIG_FILE, self.config.to_json_string())


def _lengths(audio: Tensor, mask: Tensor | None) -> Tensor | None:
    """Samples of each clip (B,), of a mask (B, T) of ones before zeros."""
    if mask is None:
        return None
    mask = torch.as_tensor(mask)
    if mask.shape != audio.shape or bool((mask[:, 1:].bool() & ~mask[:, :-1].bool()).any()):
        raise AudioError(
            f"attention_mask {tuple(mask.shape)} does not say how long each clip of input_values {tuple(audio.shape)} is; "
            "expected ones, then zeros where a clip was padded at its end, as our feature extractor makes it"
        )
    return mask.bool().sum(1)


class HearAxlstmModel(HearAxlstmPreTrainedModel):
    """Waveforms -> embeddings, those of ``hear_axlstm.load_model``."""

    def __init__(self, config: HearAxlstmConfig) -> None:
        super().__init__(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool | None = None
    ) -> BaseModelOutputWithPooling:
        """Embed clips, with gradients unless they are off.

        input_values: (B, T), mono at 16 kHz in [-1, 1]. attention_mask: (B, T), ones and then zeros; a clip's embedding does
        not depend on its padding. Both are what the feature extractor gives.

        pooler_output: scene embeddings (B, E), as ``get_scene_embeddings`` has them. last_hidden_state: timestamp embeddings
        (B, N, E), one every 40 ms with the usual patches; zeros beyond a clip's end. hidden_states: the same of every
        layer: the patch embedding, each block, the final norm. All are float32. Raises AudioError on bad input.
        """
        every = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        scenes, timestamps = self._embedded(input_values, attention_mask, "all" if every else [-1])
        hidden = tuple(timestamps) if every else None
        return BaseModelOutputWithPooling(last_hidden_state=timestamps[-1], pooler_output=scenes[-1], hidden_states=hidden)


class HearAxlstmForAudioClassification(HearAxlstmPreTrainedModel):
    """A linear layer over scene embeddings, as many classes as ``config.num_labels``."""

    def __init__(self, config: HearAxlstmConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]
        self.loss_type = "ForSequenceClassification"
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """Logits (B, classes) of clips, and their loss where labels are given.

        input_values, attention_mask, output_hidden_states: as ``HearAxlstmModel`` has them. labels: (B,) whole numbers;
        (B, classes) floats of 0 and 1 for ``config.problem_type`` "multi_label_classification"; floats for "regression".
        """
        every = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if every:
            scenes, timestamps = self._embedded(input_values, attention_mask, "all")
        else:
            scenes, timestamps = self.embedder()(input_values, _lengths(input_values, attention_mask))[None], None
        logits = self.classifier(scenes[-1].to(self.classifier.weight.dtype)).float()
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        hidden = None if timestamps is None else tuple(timestamps)
        return SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=hidden)


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Rows of a data set -> a batch of ``HearAxlstmForAudioClassification``; Trainer's data_collator.

    rows: each with a sound under "audio", as the feature extractor takes it, at its own rate; and a class under "label" or
    "labels" where there is one: a number, or one a class. Raises AudioError on a sound that cannot be embedded, ConfigError
    on a row without one.
    """
    if any("audio" not in row for row in rows):
        found = ", ".join(rows[0]) or "nothing"
        raise ConfigError(f"a row has {found}; expected audio, which Trainer drops unless remove_unused_columns=False")
    batch = dict(HearAxlstmFeatureExtractor()([row["audio"] for row in rows], return_tensors="pt"))
    for key in ("label", "labels"):
        if key in rows[0]:
            batch["labels"] = torch.as_tensor(np.array([row[key] for row in rows]))
            batch["labels"] = batch["labels"].float() if batch["labels"].is_floating_point() else batch["labels"].long()
    return batch


transformers.AutoConfig.register(MODEL_TYPE, HearAxlstmConfig, exist_ok=True)
transformers.AutoFeatureExtractor.register(HearAxlstmConfig, HearAxlstmFeatureExtractor, exist_ok=True)
transformers.AutoProcessor.register(HearAxlstmConfig, HearAxlstmFeatureExtractor, exist_ok=True)
transformers.AutoModel.register(HearAxlstmConfig, HearAxlstmModel, exist_ok=True)
transformers.AutoModelForAudioClassification.register(HearAxlstmConfig, HearAxlstmForAudioClassification, exist_ok=True)
