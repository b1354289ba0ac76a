"""What became of a plan, for people and for programs."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from skerry_optimize.guards import BuildFigures


class _ReportModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class JobPhase(StrEnum):
    """How a job ended."""

    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"
    """The build breaks a guard, or a step cannot be done with this model."""


class BuiltArtifact(_ReportModel):
    """A build, and what it is worth."""

    file: str
    sha256: str
    size_bytes: int
    size_ratio: float
    accuracy: float | None
    accuracy_drop: float | None
    latency_us: float
    latency_ratio: float
    peak_memory_bytes: int

    @classmethod
    def of(
        cls, file: str, sha256: str, figures: BuildFigures, peak_memory_bytes: int
    ) -> BuiltArtifact:
        """Return the figures of a file."""
        return cls(
            file=file,
            sha256=sha256,
            size_bytes=figures.size_bytes,
            size_ratio=figures.size_ratio,
            accuracy=figures.accuracy,
            accuracy_drop=figures.accuracy_drop,
            latency_us=figures.speed.after_us,
            latency_ratio=figures.speed.ratio,
            peak_memory_bytes=peak_memory_bytes,
        )


class JobReport(_ReportModel):
    """What became of one job."""

    name: str
    phase: JobPhase
    message: str = ""
    seconds: float = 0.0
    artifact: BuiltArtifact | None = None
    """Of a refused build the figures alone: its file is not kept."""


class Origin(_ReportModel):
    """The model that all builds were made from."""

    sha256: str
    size_bytes: int
    accuracy: float | None = None


class Report(_ReportModel):
    """What became of a plan."""

    cpu: str
    """Times are of this one."""
    origin: Origin
    jobs: tuple[JobReport, ...]

    @property
    def is_good(self) -> bool:
        """Tell whether every build that was wanted is there."""
        return all(job.phase is JobPhase.SUCCEEDED for job in self.jobs)


HEADINGS = ("build", "accuracy", "bytes", "of origin", "p50 us", "of origin's", "memory", "")


def table(report: Report) -> list[tuple[str, ...]]:
    """Return the rows for people, the first is the headings."""
    origin = report.origin
    first = ("origin", _number(origin.accuracy, 4), str(origin.size_bytes), "1.000", "", "", "", "")
    return [HEADINGS, first, *(_row(job) for job in report.jobs)]


def _row(job: JobReport) -> tuple[str, ...]:
    words = "" if job.phase is JobPhase.SUCCEEDED else f"{job.phase}: {job.message}"
    made = job.artifact
    if made is None:
        return (job.name, *[""] * 6, words)
    return (
        job.name,
        _number(made.accuracy, 4),
        str(made.size_bytes),
        _number(made.size_ratio, 3),
        _number(made.latency_us, 0),
        _number(made.latency_ratio, 2),
        f"{made.peak_memory_bytes / 2**20:.1f} MiB",
        words,
    )


def _number(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"
