"""Causal depthwise convolution and SiLU, and what an mLSTM reads off their output."""
