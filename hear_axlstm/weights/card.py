"""Header of a weights file -> model card: the README.md of a folder that people find weights in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hear_axlstm.config import HOP_MS, config_from_dict
from hear_axlstm.weights.find import WEIGHTS_FILE, read_manifest

LONGEST = 4_000  # characters of a provenance that a card shows
NAMES = {"axlstm": "AxLSTM (mLSTM blocks)", "ssam": "SSAM (Mamba blocks)", "ssast": "SSAST (transformer blocks)"}


def known_weights(facts: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The name and the manifest's entry of the very weights that a header is of; None of any others."""
    for name, entry in read_manifest()["variants"].items():
        if (bundled := entry["sources"]["bundled"]) and bundled["fingerprint"] == facts["sha256"]:
            return name, entry
    return None


def model_card(facts: Mapping[str, Any], *, name: str = "", place: str = "path/to/this/folder") -> str:
    """The text of README.md, whose front matter is YAML.

    facts: the header of the weights, as their file states it. name: a title; left out, that of weights we know, else the
    family's. place: what the examples load, a repository of the Hub or a folder.
    """
    known = known_weights(facts)
    config, head = config_from_dict(facts["config"]), facts.get("head")
    title = _plain(name) or (known[0] if known else f"An {config.family} encoder")
    licence = known[1]["licence"] if known else None
    tags = ["audio", "hear", "transformers", "sentence-transformers", "feature-extraction", config.family]
    task = "audio-classification" if head else "feature-extraction"
    return f"""---
library_name: hear-axlstm
pipeline_tag: {task}
license: {(licence or "unknown").lower()}
tags:
{"".join(f"- {tag}{chr(10)}" for tag in tags)}---

# {title}

An {NAMES[config.family]} audio encoder for [hear-axlstm](https://pypi.org/project/hear-axlstm/): sound of any length
in, a scene embedding of {config.embedding_size:,} numbers out, and timestamp embeddings, one every
{config.patch[0] * HOP_MS} ms.{_head(head)}

| | |
| --- | --- |
{_rows(facts)}

## Numbers

{_numbers(known[1] if known else None)}

## Training data and licence

{_origin(known[1] if known else None)} What the file says of its origin:

```json
{_provenance(facts["provenance"])}
```

## Limits

It hears mono sound at 16 kHz, up to 8 kHz, and standardises each clip, so it is blind to loudness. Plain cosines count what
all sounds share: subtract a collection's mean before you compare, as `hear_axlstm.similarity` does. Sound at
another rate is resampled with soxr; let nothing else do it before, or numbers differ by 0.5 to 13 %. It is not fit to judge
people, nor for anything where a wrong answer does harm.

## Use

`pip install hear-axlstm`, and for what follows `'hear-axlstm[transformers,sentence-transformers,sklearn,onnx]'`.

{_usage(json.dumps(place), head is not None)}"""


def _plain(name: str) -> str:
    """A name without what Markdown, HTML or YAML would take for its own."""
    return re.sub(r"[^\w ./-]+", " ", name).strip()[:100]


def _head(head: Mapping[str, Any] | None) -> str:
    if head is None:
        return ""
    labels = ", ".join(filter(None, map(_plain, head["labels"][:20])))
    more = f" and {len(head['labels']) - 20} more" if len(head["labels"]) > 20 else ""
    return f" A linear classifier is in the file, too: {labels}{more}."


def _rows(facts: Mapping[str, Any]) -> str:
    rows = {**facts["config"], "layout of scene embeddings": facts["layout"]}
    rows = {**rows, f"fingerprint of {WEIGHTS_FILE}": f"`{facts['sha256']}`"}
    return "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def _numbers(entry: Mapping[str, Any] | None) -> str:
    if entry is None or "scores" not in entry:
        return "No scores are known of these weights."
    scores = entry["scores"]
    tasks = "\n".join(f"| {task} | {value} |" for task, value in scores["tasks"].items())
    return f"""{scores["measure"]}:

| task | these weights |
| --- | ---: |
{tasks}
| **mean** | **{scores["mean"]}** |

Random weights of this encoder have a mean of {scores["random"]}, the log-mel's mean and deviation {scores["log_mel"]}."""


def _origin(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "Whoever publishes these weights says here what they heard, and under which licence they are."
    return (
        f"Trained by the authors of hear-axlstm on {entry['training_data']}. Licence: {entry['licence']}; the package's "
        "NOTICE lists the recordings and their licences."
    )


def _provenance(provenance: Mapping[str, Any]) -> str:
    text = json.dumps(provenance, indent=1).replace("`", "\\u0060")
    text = re.sub(r"\[\s+(-?[\d.e+-]+),\s+(-?[\d.e+-]+)\s+\]", r"[\1, \2]", text)  # the points of a curve, one a line
    return text if len(text) <= LONGEST else '"it is long: hear_axlstm.weights.load.read_header shows it"'


def _usage(place: str, classifies: bool) -> str:
    classifier = f"""
classifier = transformers.AutoModelForAudioClassification.from_pretrained({place})
"""
    return f"""```python
import hear_axlstm

model = hear_axlstm.load_model({place})  # a torch.nn.Module of the HEAR API
result = hear_axlstm.embed("recordings", model)  # a folder of sound, any format and rate
```

transformers, with `import hear_axlstm.doors.transformers` or `trust_remote_code=True`:

```python
import transformers
import hear_axlstm.doors.transformers

extractor = transformers.AutoFeatureExtractor.from_pretrained({place})
model = transformers.AutoModel.from_pretrained({place})
outputs = model(**extractor(["a.wav", "b.flac"], return_tensors="pt"))  # pooler_output, last_hidden_state
{classifier if classifies else ""}```

sentence-transformers:

```python
import sentence_transformers
import hear_axlstm.doors.sentence_transformers

model = sentence_transformers.SentenceTransformer({place})
embeddings = model.encode(["a.wav", "b.flac"])
```

scikit-learn:

```python
from hear_axlstm.doors.scikit_learn import HearEmbedding

X = HearEmbedding({place}).fit_transform(["a.wav", "b.flac"])
```

ONNX, of the model that `load_model` returned, and MTEB:

```python
hear_axlstm.export(hear_axlstm.load_model({place}), "model.onnx")

import mteb
import hear_axlstm.doors.mteb

mteb.evaluate(hear_axlstm.doors.mteb.model({place}), tasks)
```
"""
