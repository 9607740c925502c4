"""The operations of ``ops`` written for a GPU (Triton) and for a CPU (Numba)."""
