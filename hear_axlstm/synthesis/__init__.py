"""Sound to train on that nobody recorded: procedural synthesis, and speech and instruments through other programs."""
