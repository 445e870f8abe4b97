"""Which cause is at work in a run: the catalogue looked through, the strongest evidence first."""

import math

from offdiag.diagnostics.causes.catalogue import CAUSES
from offdiag.diagnostics.causes.cause import Cause, Finding, Red, State, Strength
from offdiag.diagnostics.causes.evidence import Evidence
from offdiag.results.observation import MonitorRecord

STRENGTHS = tuple(Strength)
STATES = tuple(State)


def find_causes(record: MonitorRecord, *, harmed: bool | None = None) -> tuple[Finding, ...]:
    """What the recorded marks say of every cause of the catalogue; a pure function of the record.

    Red findings come first, by strength, then by the step at which they were first seen, then
    in the catalogue's order; then what was not measured, which is not ruled out; then what was
    measured and is in order, which is ruled out. `harmed` says whether the run lost its
    directions, as a verdict has it; where it is False a red mark is a note and not an alarm.
    """
    evidence = Evidence.of(record)
    findings = [_finding(cause, evidence, harmed) for cause in CAUSES]
    return tuple(sorted(findings, key=_order))


def alarms(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings that are red and not just notes, in their order."""
    return tuple(finding for finding in findings if finding.alarm)


def _finding(cause: Cause, evidence: Evidence, harmed: bool | None) -> Finding:
    seen = cause.look(evidence)
    if isinstance(seen, Red):
        words = {
            "value": f"{seen.value:.3g}",
            "bound": f"{cause.bound:g}",
            "step": str(seen.step),
            "part": seen.part or "model",
            **(seen.words or {}),
        }
        return Finding(
            cause=cause,
            state=State.RED,
            value=seen.value,
            bound=cause.bound,
            since_step=seen.step,
            part=seen.part,
            sentence=cause.sentence.format(**words),
            change=_change(cause, evidence).format(**words),
            note=harmed is False,
        )
    return Finding(
        cause=cause,
        state=State.IN_ORDER if seen is True else State.NOT_MEASURED,
        bound=cause.bound,
        change=_plain(_change(cause, evidence)),
    )


def _change(cause: Cause, evidence: Evidence) -> str:
    """The words of the library that the watched model comes from, or plain torch."""
    return cause.change.get(str(evidence.about.get("library", "torch")), cause.change["torch"])


class _Blank(dict[str, str]):
    """A blank for each number that a template takes and nobody measured."""

    def __missing__(self, key: str) -> str:
        return key


def _plain(template: str) -> str:
    return template.format_map(_Blank())


def _order(finding: Finding) -> tuple[int, int, float]:
    since = math.inf if finding.since_step is None else finding.since_step
    return (
        STATES.index(finding.state),
        STRENGTHS.index(finding.cause.strength) if finding.state is State.RED else 0,
        since if finding.state is State.RED else 0,
    )
