"""Damaged sounds and weights by the thousand, read as a user's would be: `python -m fuzz`, from a checkout, on Linux."""
