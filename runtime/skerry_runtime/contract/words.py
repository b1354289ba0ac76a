"""The words of the contract: one enum each. Documents take them as `Open[...]`."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """File format of a model."""

    ONNX = "ONNX"
    ORT = "ORT"
    TFLITE = "TFLite"
    CUSTOM = "Custom"  # of the accelerator's vendor; needs the profile's own runtime image


class Engine(StrEnum):
    """What runs a model."""

    ONNX_RUNTIME = "ONNXRuntime"
    LITE_RT = "LiteRT"
    TRITON = "Triton"  # NVIDIA's server, in a container of its own beside the runtime


class EncryptionFormat(StrEnum):
    """How a model's file is encrypted."""

    AGE = "age"  # age-encryption.org/v1, for X25519 recipients


class GoldenMetric(StrEnum):
    """How the golden exam scores a copy of a model."""

    ACCURACY = "Accuracy"  # share of labels met, higher is better
    MAX_ABS_ERROR = "MaxAbsError"  # largest |output - expected|, lower is better
    AGREEMENT = "Agreement"  # share of equal argmax against expected outputs, higher is better
    MEAN_IOU = "MeanIoU"  # overlap of the boxes found with the expected ones, higher is better
    SEQUENCE_AGREEMENT = "SequenceAgreement"  # 1 - edit distance / length, higher is better

    @property
    def higher_is_better(self) -> bool:
        """Tell whether a threshold of this metric is a minimum."""
        return self is not GoldenMetric.MAX_ABS_ERROR


class SwapMode(StrEnum):
    """How a new model takes the old one's place inside a pod."""

    AUTO = "Auto"  # Overlap when both fit, else Sequential
    OVERLAP = "Overlap"  # load beside the old one, then switch
    SEQUENTIAL = "Sequential"  # unload, load, verify; load the old one again on failure


class BatchingMode(StrEnum):
    """Whether requests that wait at one time share a run of the model."""

    AUTO = "Auto"  # where a measurement on the loaded model shows that it pays
    ON = "On"
    OFF = "Off"


class SwapPhase(StrEnum):
    """Where a pod stands with the revision it was given."""

    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    PROBING = "Probing"
    LOADING = "Loading"
    EXAMINING = "Examining"
    SHADOWING = "Shadowing"
    SERVING = "Serving"
    FAILED = "Failed"


class FailureReason(StrEnum):
    """Why a pod refuses a revision."""

    FETCH_FAILED = "FetchFailed"  # the source answered with a refusal, or not at all
    DIGEST_MISMATCH = "DigestMismatch"  # the bytes are not the ones the spec names
    INSUFFICIENT_DISK = "InsufficientDisk"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    SIGNATURE_INVALID = "SignatureInvalid"  # no key that counts vouches for these files
    DECRYPTION_FAILED = "DecryptionFailed"  # the identity, or the encrypted file, will not do
    INVALID_MODEL = "InvalidModel"  # not a model, truncated, external data outside the artifact
    PROBE_FAILED = "ProbeFailed"  # crashed or ran out of its limits in the child process
    LOAD_FAILED = "LoadFailed"
    PROVIDER_MISSING = "ProviderMissing"  # fallback forbidden, and the accelerator was not got
    ENGINE_AWAY = "EngineAway"  # the engine's own process does not answer; tried again
    EXAM_FAILED = "ExamFailed"
    INVALID_EXAM = "InvalidExam"  # the golden file cannot be used with this model
    OUTPUT_DISAGREES = "OutputDisagrees"  # too many answers differ from the serving model's
    SELF_REVERTED = "SelfReverted"  # crashed twice while activating: refused on this unit
