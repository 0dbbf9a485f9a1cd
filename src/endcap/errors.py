"""One tree of errors. Every message carries the field, the value and what to do next.

EndcapError
├── ConfigError          params.yaml or an environment variable is wrong
├── InputError           a file, a batch or a request cannot be used
│   └── BatchRejected    a batch broke a blocking expectation and was quarantined
├── DatasetError         a dataset version is missing, broken or could not be written
├── TrainingError        training cannot go on (NaN loss, nothing to learn from)
├── EstimateRefused      a log cannot tell what a policy would earn
├── RegistryError        the model registry is away or does not know the version
├── ReleaseError         a gate, a signature or an approval is missing or wrong
│   ├── GatesFailed      a candidate did not earn its place
│   └── RecordInvalid    a gate or promotion record does not verify
├── AccessRefused        a call shows no API key that counts, or comes too often
└── ServiceUnavailable   Airflow, MLflow, the database or the DVC remote does not answer
    └── Overloaded       more calls wait than may; nothing was done
"""


class EndcapError(Exception):
    """Base of all errors that Endcap raises on purpose.

    `field` names what is wrong, `value` what it was, `action` what to do; all three are part of the message.
    """

    def __init__(self, problem: str, *, field: str = "", value: object = None, action: str = "") -> None:
        self.problem, self.field, self.value, self.action = problem, field, value, action
        parts = [f"{field}: {problem}" if field else problem]
        if value is not None:
            parts.append(f"got {shorten(value)}")
        message = "; ".join(parts)
        super().__init__(f"{message}. {action}" if action else message)

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling between processes, which would otherwise drop the keyword arguments."""
        return (_rebuild, (type(self), self.problem, self.field, self.value, self.action))


class ConfigError(EndcapError):
    """params.yaml or the environment holds something that cannot be used."""


class InputError(EndcapError):
    """A file, a batch or a request cannot be used as it is."""


class BatchRejected(InputError):
    """A batch broke a blocking expectation; it lies in quarantine, whole, with its report."""


class DatasetError(EndcapError):
    """A dataset version is missing, broken or could not be written."""


class TrainingError(EndcapError):
    """Training cannot go on; the last good checkpoint is kept."""


class EstimateRefused(EndcapError):
    """A log cannot tell what a policy would earn: a number would look sure and be wrong."""


class RegistryError(EndcapError):
    """The model registry does not hold what was asked for."""


class ReleaseError(EndcapError):
    """A release step was refused."""


class GatesFailed(ReleaseError):
    """A candidate did not pass every blocking gate."""


class RecordInvalid(ReleaseError):
    """A gate or promotion record is missing, unsigned, altered or bound to another model."""


class AccessRefused(EndcapError):
    """A call shows no API key that counts. Never carries a word of the key itself."""


class ServiceUnavailable(EndcapError):
    """A part of the stack does not answer."""


class Overloaded(ServiceUnavailable):
    """More calls wait than may: this one was turned away at once, so that the others are answered in time."""


def shorten(value: object, limit: int = 120) -> str:
    """`repr(value)`, cut in the middle when longer than `limit` characters.

    >>> shorten("a" * 300, limit=11)
    "'aaa…aaaa'"
    """
    text = repr(value)
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: half - 1]}…{text[-half:]}"


def _rebuild(kind: type[EndcapError], problem: str, field: str, value: object, action: str) -> EndcapError:
    return kind(problem, field=field, value=value, action=action)
