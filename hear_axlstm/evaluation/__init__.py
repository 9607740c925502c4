"""The HEAR evaluation: task folders -> embeddings -> classifiers -> scores beside the published ones."""
