"""When a pod is asked again. Pure.

    just told something        after FIRST_S, then each time half as long again as before
    not yet where it should be at most every SOONEST_S, at least every second (Attention.pace_s)
    where it should be         just before the next look of a rollout; at rest at the idle period
    there, and not on trial    the same, but at most every BYSTANDER_S
    no answer                  twice as long as before, up to SILENT_S
All with jitter, so that a thousand pods do not answer at one moment; and of one deployment not more
than CROWD_PER_S pods a second are asked for the second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from skerry_operator.reports.table import Attention, Voice

FIRST_S = 0.1
"""From a change of the pod to the first question: its kubelet has to hand the file on."""
SOONEST_S = 0.2
"""Least time between two questions to one pod, but for those right after a change."""
GROWTH = 1.5
CLOSE_S = 1.0
"""Longest time between two questions to a pod that is on its way, while a rollout runs; and the
shortest to one that is there."""
BYSTANDER_S = 3.0
"""The shortest to one that is there and serves what is not on trial: nobody waits for its numbers,
what stable did is noted when a rollout begins."""
UNSETTLED_S = 5.0
"""The same at rest: what keeps it may last."""
LEAD_S = 0.5
"""How long before a look settled pods are asked, so that the look finds numbers of the moment."""
SILENT_UNDER_WAY_S = 2.0
SILENT_S = 30.0
"""Longest time between two questions to a silent pod."""
JITTER = 0.1
"""Share of a time by which it may be shorter: never longer, a look would come before the answer."""
CROWD_PER_S = 500.0


@dataclass(frozen=True)
class Cadence:
    """How often pods are asked."""

    random: Random
    idle_s: float
    """Time between two questions to a pod at rest."""

    def again_at(self, voice: Voice, attention: Attention, now: float, crowd: int = 0) -> float:
        """Return when to ask a pod again whose question has just ended.

        `crowd` is how many pods of its deployment are expected to say more.
        """
        wait_s = max(self._wait_s(voice, attention, now), crowd / CROWD_PER_S)
        return now + wait_s * self.random.uniform(1 - JITTER, 1)

    def latest_at(self, voice: Voice, attention: Attention, now: float) -> float:
        """Return when to ask a pod at the latest, now that a look said when the next one is."""
        return now + self._wait_s(voice, attention, now) * self.random.uniform(1 - JITTER, 1)

    def _wait_s(self, voice: Voice, attention: Attention, now: float) -> float:
        if voice.misses:
            longest = SILENT_UNDER_WAY_S if attention.is_under_way else SILENT_S
            return min(longest, self.idle_s, SOONEST_S * 2.0 ** min(voice.misses, 16))
        if not voice.is_settled:
            return self._on_its_way_s(voice, attention, now)
        if not attention.is_under_way:
            return self.idle_s
        is_bystander = voice.serves_other_than(attention.on_trial)
        shortest = BYSTANDER_S if is_bystander else CLOSE_S
        return min(self.idle_s, max(shortest, attention.look_at - LEAD_S - now))

    def _on_its_way_s(self, voice: Voice, attention: Attention, now: float) -> float:
        """Return a time that grows with the time since the pod was told."""
        if not attention.is_under_way:
            longest = UNSETTLED_S
        else:
            longest = min(CLOSE_S, max(SOONEST_S, attention.pace_s))
        return min(longest, max(FIRST_S, (GROWTH - 1) * (now - voice.changed_at)))
