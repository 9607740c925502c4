"""Residual addition and layer norm."""
