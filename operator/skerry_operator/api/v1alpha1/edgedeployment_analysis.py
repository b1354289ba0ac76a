"""The analysis of an EdgeDeployment: what is measured of a rollout, and the limits to keep."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from skerry_operator.api.base import Cel, Duration, KubeModel
from skerry_operator.api.bounds import DURATION_CEL, PLAIN, PLAIN_LINES, duration_between
from skerry_runtime.contract import Open


class NoData(StrEnum):
    """What a metric without enough samples means."""

    HOLD = "Hold"
    PASS = "Pass"  # noqa: S105 (a policy, not a password)
    FAIL = "Fail"


class MetricReading(StrEnum):
    """Whose numbers a value is made from."""

    CELL = "Cell"  # those of all units of a cell together
    WORST_UNIT = "WorstUnit"  # those of the unit that is worst


class MetricName(StrEnum):
    """What Skerry measures of a revision by itself."""

    ERROR_RATE = "ErrorRate"
    LATENCY_P50 = "LatencyP50"
    LATENCY_P95 = "LatencyP95"
    LATENCY_P99 = "LatencyP99"
    GOLDEN_ACCURACY = "GoldenAccuracy"
    ACCELERATED = "Accelerated"
    RESTARTS = "Restarts"
    OUTPUT_AGREEMENT = "OutputAgreement"

    @property
    def is_latency(self) -> bool:
        """Tell whether its limit is a duration."""
        return self.value.startswith("Latency")


PLACEHOLDERS = ("revision", "stable", "namespace", "deployment", "units")
"""Words that a Prometheus query may have between double braces."""

_KNOWN_METRICS = ", ".join(f"'{name}'" for name in MetricName)
_SHARE = "^(0(\\\\.[0-9]+)?|1(\\\\.0+)?)$"
_WITHOUT_PLACEHOLDERS = "self.query" + "".join(
    f".replace('{{{{{word}}}}}', '')" for word in PLACEHOLDERS
)

MetricLabel = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]([-_.A-Za-z0-9]*[A-Za-z0-9])?$", max_length=63)
]
LimitText = Annotated[str, StringConstraints(max_length=256), PLAIN]
Ratio = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$", max_length=13)]


class PrometheusQuery(KubeModel):
    """A question to the Prometheus server that the operator's settings name."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            f"!{_WITHOUT_PLACEHOLDERS}.contains('{{{{')",
            "query knows the placeholders "
            + ", ".join(f"{{{{{word}}}}}" for word in PLACEHOLDERS)
            + " and no others",
        ),
    )

    query: Annotated[str, StringConstraints(min_length=1, max_length=2048), PLAIN_LINES]
    """PromQL whose answer is one number: a scalar, or a vector of one series."""


class Metric(KubeModel):
    """A limit that the target must keep, in every cell."""

    cel: ClassVar[tuple[Cel, ...]] = (
        Cel(
            "[has(self.max), has(self.min), has(self.maxRatioToStable), "
            "has(self.minRatioToStable)].exists_one(given, given)",
            "a metric needs either max or min, or maxRatioToStable or minRatioToStable, and only "
            "one of them: list it twice for two limits",
        ),
        Cel(
            f"has(self.prometheus) != (self.name in [{_KNOWN_METRICS}])",
            f"name must be one of {', '.join(MetricName)}; any other name needs prometheus.query, "
            "and these must not have one",
        ),
        Cel(
            "!self.name.startsWith('Latency') || has(self.prometheus) || "
            "has(self.maxRatioToStable) || (has(self.max) && "
            f"self.max.matches('{DURATION_CEL}') && duration(self.max) <= duration('1h'))",
            "a latency metric needs max as a duration of at most 1h, for example 50ms, or "
            "maxRatioToStable",
        ),
        Cel(
            "self.name != 'ErrorRate' || has(self.maxRatioToStable) || "
            f"(has(self.max) && self.max.matches('{_SHARE}'))",
            'ErrorRate needs max as a share between 0 and 1, for example "0.01", or '
            "maxRatioToStable",
        ),
        Cel(
            "!(self.name == 'GoldenAccuracy' || has(self.prometheus)) || "
            "!(has(self.min) || has(self.max)) || "
            "(has(self.min) ? self.min : self.max).matches('^-?[0-9]+(\\\\.[0-9]+)?$')",
            'GoldenAccuracy and prometheus need min or max as a decimal, for example "0.95"',
        ),
        Cel(
            "!(self.name in ['Accelerated', 'OutputAgreement']) || "
            f"(has(self.min) && self.min.matches('{_SHARE}'))",
            'Accelerated and OutputAgreement need min as a share between 0 and 1, such as "0.98"',
        ),
        Cel(
            "self.name != 'Restarts' || (has(self.max) && self.max.matches('^[0-9]{1,6}$'))",
            'Restarts needs max as a whole number, for example "0"',
        ),
        Cel(
            "!has(self.prometheus) || has(self.min) || has(self.max)",
            "a prometheus metric takes max or min: write a ratio in the query, with {{stable}}",
        ),
        Cel(
            "!has(self.prometheus) || !has(self.minSamples)",
            "minSamples does not belong to a prometheus metric: let the query give nothing",
        ),
        Cel(
            "!(self.name in ['GoldenAccuracy', 'Accelerated', 'OutputAgreement']) || "
            "!(has(self.failureLimit) || has(self.initialDelay) || "
            "has(self.consecutiveErrorLimit))",
            "failureLimit, initialDelay and consecutiveErrorLimit belong to what is measured again "
            "and again: GoldenAccuracy, Accelerated and OutputAgreement are read once",
        ),
        Cel(
            "!has(self.reading) || self.reading == 'Cell' || (!has(self.prometheus) && "
            "(self.name in ['ErrorRate', 'Restarts'] || self.name.startsWith('Latency')))",
            "reading: WorstUnit is for ErrorRate, Restarts and latencies",
        ),
        Cel(
            "!(has(self.maxRatioToStable) && self.maxRatioToStable.matches('^[0.]+$')) && "
            "!(has(self.minRatioToStable) && self.minRatioToStable.matches('^[0.]+$'))",
            'a ratio must be above 0, for example "1.5"',
        ),
    )

    name: MetricLabel
    """What is measured: ErrorRate, LatencyP50, LatencyP95, LatencyP99, GoldenAccuracy,
    Accelerated, Restarts or OutputAgreement; with `prometheus`, a name of your own."""
    prometheus: PrometheusQuery | None = None
    """Asks Prometheus instead."""
    max: LimitText | None = None
    """Largest good value: a duration for latencies, else a decimal."""
    min: LimitText | None = None
    """Smallest good value, a decimal."""
    max_ratio_to_stable: Ratio | None = None
    """Largest good value as a multiple of stable's in the same cell over the same minute."""
    min_ratio_to_stable: Ratio | None = None
    """Smallest good value as a multiple of stable's, for GoldenAccuracy."""
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """What a cell must have before the value counts: requests answered for rates and latencies,
    answers compared for OutputAgreement, units for Accelerated and Restarts."""
    no_data: NoData = NoData.HOLD
    """What it means when there are fewer."""
    reading: Open[MetricReading] = MetricReading.CELL
    """Cell: the units of a cell together. WorstUnit: the worst of its units that have `minSamples`
    each, so that one that fails is not lost among hundreds that do not."""
    initial_delay: Annotated[Duration, duration_between("0s", "24h")] | None = None
    """What a unit does so soon after it began to serve the target does not count; a query is not
    looked at so soon after a step began."""
    failure_limit: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Bad measurements of a rollout that are tolerated. When it is set, a measurement is taken
    every interval, of the requests since the one before, and `minSamples` is needed for each.
    Default: all since the target was activated is one measurement, and 0 are tolerated."""
    consecutive_error_limit: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Measurements in succession that could not be taken, as the source was down, and are
    tolerated. Default: any number, until the progress deadline."""

    @property
    def kind(self) -> MetricName | None:
        """What Skerry measures itself; None: Prometheus is asked, or the name is unknown."""
        known = self.prometheus is None and self.name in set(MetricName)
        return MetricName(self.name) if known else None

    @property
    def is_repeated(self) -> bool:
        """Tell whether measurements are taken one after the other, each of what is new."""
        asked = (self.initial_delay, self.failure_limit, self.consecutive_error_limit)
        return any(one is not None for one in asked)

    @property
    def label(self) -> str:
        """Name and limit: what tells it from others of its name."""
        limits = {
            "max": self.max,
            "min": self.min,
            "maxRatioToStable": self.max_ratio_to_stable,
            "minRatioToStable": self.min_ratio_to_stable,
        }
        words = [f"{name} {value}" for name, value in limits.items() if value is not None]
        worst = [str(self.reading)] if self.reading != MetricReading.CELL else []
        return " ".join((self.name, *words, *worst))[:256]

    @property
    def is_ratio(self) -> bool:
        """Tell whether its limit is a multiple of stable's value."""
        return self.max_ratio_to_stable is not None or self.min_ratio_to_stable is not None

    @property
    def is_maximum(self) -> bool:
        """Tell whether small values are good."""
        return self.max is not None or self.max_ratio_to_stable is not None


class Analysis(KubeModel):
    """What is measured while a rollout is under way."""

    interval: Annotated[Duration, duration_between("1ms", "24h")] = "10s"
    """How often."""
    metrics: Annotated[tuple[Metric, ...], Field(max_length=16)] = ()
    """Limits; the worst result counts."""
