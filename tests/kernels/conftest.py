"""Where there is a GPU, the Triton kernels are tested on it instead of by the interpreter."""

import pytest
import torch


@pytest.fixture(autouse=True)
def on_the_gpu_where_there_is_one(request):
    if torch.cuda.is_available() and request.module.__name__.endswith("_cuda"):
        torch.set_default_device("cuda")
        yield
        torch.set_default_device(None)
    else:
        yield
