"""hear-validator on several modules in one process: python -m tests.kit.validate MODULE=WEIGHTS ..."""

import sys

BLOCKS = 2  # of twelve that are alike: the contract does not depend on depth

if __name__ == "__main__":
    from hearvalidator.validate import ValidateModel

    class ValidateShallow(ValidateModel):
        """The validator, on a model that is cut to its first blocks as soon as it is loaded."""

        def check_load_model(self):
            super().check_load_model()
            del self.model.encoder.blocks[BLOCKS:]

    for argument in sys.argv[1:]:
        module, _, weights = argument.partition("=")
        ValidateShallow(module, weights, device="cpu")()
        print(f"passed: {module}", flush=True)
