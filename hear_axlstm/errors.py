"""The errors a caller may want to tell apart. Each message says what was got, what was expected and the next step."""


class HearAxlstmError(Exception):
    """Base of every error this package raises on purpose."""


class AudioError(HearAxlstmError, ValueError):
    """Audio that cannot be embedded: wrong rank or dtype, too short, not finite, or a file that cannot be decoded."""


class ConfigError(HearAxlstmError, ValueError):
    """An unknown variant or option, or options that do not fit together."""


class WeightsError(HearAxlstmError, RuntimeError):
    """Weights that are missing, damaged, refused, or of another architecture."""


class OutputError(HearAxlstmError, RuntimeError):
    """An output folder that must not be continued, or that cannot be written."""


class TrainingError(HearAxlstmError, RuntimeError):
    """A training run that cannot go on: its loss is no longer finite."""


class BackendError(HearAxlstmError, RuntimeError):
    """A backend that was asked for by name and cannot run here."""


class TaskError(HearAxlstmError, ValueError):
    """A HEAR task, its folder or its embeddings that are missing, damaged, or not of the kind that is needed."""


class EvaluationError(HearAxlstmError, RuntimeError):
    """An evaluation that cannot be carried out: hear-eval-kit is missing or failed, or a process died."""
