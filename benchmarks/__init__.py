"""Measurements of speed, from a checkout; README.md shows what they found."""
