"""torchaudio's log-mel front end in a process of its own: python -m tests.torchaudio_mel WAVE.pt OUT.pt

PyPI's torchaudio ships a compiled extension for one build of torch and fails to import beside another. The transform is
plain Python and does not use it, so the import goes on without the extension then.
"""

import sys
import types

import torch


def import_torchaudio():
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        extension = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = extension
        import torchaudio
    import torchaudio.transforms

    return torchaudio


if __name__ == "__main__":
    transform = import_torchaudio().transforms.MelSpectrogram(
        16_000, n_fft=400, win_length=400, hop_length=160, f_min=50, f_max=8_000, n_mels=80, power=2.0
    )
    torch.save({"mel": transform(torch.load(sys.argv[1])), "filters": transform.mel_scale.fb}, sys.argv[2])
