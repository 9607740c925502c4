"""Log-mel -> masked patches -> loss."""
