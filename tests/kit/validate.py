"""hear-validator on several modules in one process: python -m tests.kit.validate MODULE=WEIGHTS ..."""

import sys

if __name__ == "__main__":
    from hearvalidator.validate import ValidateModel

    for argument in sys.argv[1:]:
        module, _, weights = argument.partition("=")
        ValidateModel(module, weights, device="cpu")()
        print(f"passed: {module}", flush=True)
