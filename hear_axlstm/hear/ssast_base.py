"""ssast-base as a HEAR module: ``python -m heareval.embeddings.runner hear_axlstm.hear.ssast_base``."""

from hear_axlstm.hear import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("ssast-base")
