"""axlstm-base-e2 as a HEAR module: ``python -m heareval.embeddings.runner hear_axlstm.hear.axlstm_base_e2``."""

from hear_axlstm.hear import bind

load_model, get_scene_embeddings, get_timestamp_embeddings = bind("axlstm-base-e2")
