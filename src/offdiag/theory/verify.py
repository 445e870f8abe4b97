"""The claims of any dynamics measured, over processes."""

from collections.abc import Callable, Mapping, Sequence

import joblib

from offdiag.theory.claim import Finding
from offdiag.theory.dynamics import DYNAMICS, dynamics_entry

ALL = "all"


def names_of(name: str) -> Sequence[str]:
    """`name`, or every dynamics of the table for "all"."""
    if name == ALL:
        return list(DYNAMICS)
    dynamics_entry(name)
    return [name]


def verify_dynamics(
    names: Sequence[str],
    *,
    starts: int = 20,
    jobs: int = -1,
    on_finding: Callable[[str, Finding], None] | None = None,
) -> Mapping[str, Sequence[Finding]]:
    """Every claim of each dynamics, measured on its default problem, by the dynamics' name.

    `starts` starts for each measurement, `jobs` processes (-1: one for each core).
    `on_finding` receives each finding as it comes.
    """
    keys = [(name, claim.key) for name in names for claim in dynamics_entry(name).claims]
    work = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
        joblib.delayed(_measure)(name, key, starts) for name, key in keys
    )
    found: dict[tuple[str, str], Finding] = {}
    for name, finding in work:
        found[name, finding.key] = finding
        if on_finding is not None:
            on_finding(name, finding)
    return {name: [found[one] for one in keys if one[0] == name] for name in names}


def _measure(name: str, key: str, starts: int) -> tuple[str, Finding]:
    entry = dynamics_entry(name)
    claim = next(one for one in entry.claims if one.key == key)
    return name, claim.evaluate(entry.target(), starts)
