"""hear-validator's timestamp check at many lengths: python -m tests.kit.validate_lengths MODULE WEIGHTS SAMPLES ..."""

import sys

if __name__ == "__main__":
    from hearvalidator.validate import ValidateModel

    module, weights, *samples = sys.argv[1:]
    validator = ValidateModel(module, weights, device="cpu")
    validator.import_model()
    validator.check_load_model()
    for count in map(int, samples):
        # The validator rounds down; half a sample more keeps the count.
        validator._check_timestamp_embeddings(num_audio=2, length=(count + 0.5) / validator.model.sample_rate)
        print(f"passed: {count}", flush=True)
