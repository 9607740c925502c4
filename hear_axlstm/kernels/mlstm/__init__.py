"""The mLSTM: matrix memory with exponential gating (Beck et al., xLSTM, 2024; AxLSTM eqs. 1-9)."""
