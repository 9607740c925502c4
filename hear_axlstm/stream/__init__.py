"""Sound as it comes: embeddings of a stream, moment by moment."""
