"""A diagnosis as one self-contained page."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from offdiag.diagnostics.catalogue import HEAD_READINGS, READINGS, Chart, head_reading
from offdiag.diagnostics.diagnosis import Diagnosis
from offdiag.diagnostics.named_cause import NamedCause
from offdiag.plots import diagnosis as plots
from offdiag.plots.theme import PALETTE
from offdiag.plots.thinning import evenly
from offdiag.report.document import chart_spec, render, writable, write_page
from offdiag.report.numbers import Cell, cell, percent, significant
from offdiag.report.page import Figure
from offdiag.report.ranges import at_the_end, reading_rows
from offdiag.report.settings import settings
from offdiag.results.observation import Observation
from offdiag.results.readings import HeadReadings

TABLE_STEPS = 6
TABLE_EIGENVALUES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def write_diagnosis(diagnosis: Diagnosis, out: Path) -> None:
    """Write the page to the file `out`, whole or not at all; its folder is made if missing."""
    write_page(render_diagnosis(diagnosis), out)


def render_diagnosis(diagnosis: Diagnosis) -> str:
    """The page as HTML, a function of the diagnosis alone."""
    return render(
        "diagnosis.html.j2",
        title=" ".join(writable(diagnosis.name).split()) or "Diagnosis",
        verdict=diagnosis.verdict,
        steps=at_the_end(diagnosis),
        causes=diagnosis.causes,
        alarms=[one for one in diagnosis.causes if one.alarm],
        other_causes=_other_causes(diagnosis),
        notes=diagnosis.notes,
        colours=PALETTE,
        spectra=[_spectrum(diagnosis, part, i) for i, part in enumerate(diagnosis.readings)],
        tables=[
            (part, diagnosis.readings[part], rows) for part, rows in reading_rows(diagnosis).items()
        ],
        started=bool(diagnosis.start),
        compared=bool(diagnosis.noise),
        courses=[_figure(course, diagnosis) for course in _courses(diagnosis)],
        head=_head(diagnosis.head),
        knn=[(part, percent(value)) for part, value in diagnosis.knn.items()],
        chance=_chance(diagnosis),
        paired=_paired(diagnosis),
        about=[(one.path, one.values[0]) for one in settings([diagnosis.about])],
    )


def _other_causes(diagnosis: Diagnosis) -> list[tuple[str, list[NamedCause]]]:
    """The causes that are no alarm, under what was found out about them."""
    groups = (
        ("Seen, and harmless here", [one for one in diagnosis.causes if one.note]),
        ("Not measured, so not ruled out", _in_state(diagnosis, "not measured")),
        ("Measured and in order, so ruled out", _in_state(diagnosis, "in order")),
    )
    return [(heading, some) for heading, some in groups if some]


def _in_state(diagnosis: Diagnosis, state: str) -> list[NamedCause]:
    return [one for one in diagnosis.causes if one.state == state]


def _spectrum(diagnosis: Diagnosis, part: str, number: int) -> Figure:
    named = {
        plots.NOW: diagnosis.readings[part],
        plots.NOISE: diagnosis.noise.get(part),
        plots.START: diagnosis.start.get(part),
    }
    shares = {
        name: [share if math.isfinite(share) else None for share in readings.spectrum]
        for name, readings in named.items()
        if readings is not None
    }
    chosen = [k for k in TABLE_EIGENVALUES if k <= max(map(len, shares.values()))]
    return Figure(
        id=f"spectrum-{number}",
        title=part if len(diagnosis.readings) > 1 else "Share of the variance of each direction",
        how="",
        spec=chart_spec(
            plots.spectra(
                shares[plots.NOW],
                noise=shares.get(plots.NOISE, ()),
                start=shares.get(plots.START, ()),
                dim=diagnosis.readings[part].dim,
                part=part,
            )
        ),
        table=(
            tuple(f"eigenvalue {k}" for k in chosen),
            tuple(
                (name, tuple(_at(values, k - 1) for k in chosen)) for name, values in shares.items()
            ),
        ),
    )


def _at(values: Sequence[float | None], index: int) -> Cell:
    value = values[index] if index < len(values) else None
    return cell(percent(value), otherwise="no such eigenvalue")


def _courses(diagnosis: Diagnosis) -> list[plots.Course]:
    history = diagnosis.history
    if len(history) < 2:
        return []
    norm = head_reading("off_diagonal_norm").chart
    assert norm is not None
    courses = [
        *[_course(diagnosis, one.name, one.chart) for one in READINGS if one.chart is not None],
        _of_observations(
            history,
            {"loss": lambda seen: seen.loss},
            key="loss",
            chart=Chart(
                title="Loss",
                axis="loss",
                caption="Beside the others, for comparison: the loss cannot see collapse.",
                zero=False,
            ),
        ),
        _of_observations(
            history,
            {"off-diagonal norm": lambda seen: seen.head.off_diagonal_norm if seen.head else None},
            key="head",
            chart=norm,
        ),
    ]
    return [course for course in courses if course.values]


def _course(diagnosis: Diagnosis, name: str, chart: Chart) -> plots.Course:
    """One reading of every part over the steps; parts that lack it are left out."""

    def reader(part: str) -> Callable[[Observation], float | None]:
        def read(seen: Observation) -> float | None:
            readings = seen.parts.get(part)
            return None if readings is None else getattr(readings, name) * chart.scale(readings)

        return read

    parts = dict.fromkeys(part for seen in diagnosis.history for part in seen.parts)
    lines = {part: reader(part) for part in parts}
    return _of_observations(diagnosis.history, lines, key=name, chart=chart)


def _of_observations(
    history: Sequence[Observation],
    lines: Mapping[str, Callable[[Observation], float | None]],
    *,
    key: str,
    chart: Chart,
) -> plots.Course:
    values = {name: [_finite(line(seen)) for seen in history] for name, line in lines.items()}
    return plots.Course(
        key=key,
        title=chart.title,
        axis=chart.axis,
        how=chart.caption,
        steps=[seen.step for seen in history],
        values={k: v for k, v in values.items() if any(one is not None for one in v)},
        levels=() if chart.level is None else ((chart.level, chart.level_word),),
        log=chart.log,
        format=chart.format,
        zero=chart.zero,
    )


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _figure(course: plots.Course, diagnosis: Diagnosis) -> Figure:
    chosen = evenly(len(course.steps), TABLE_STEPS)
    word = percent if "%" in course.format else significant
    verdict = diagnosis.verdict
    return Figure(
        id=f"course-{course.key}",
        title=course.title,
        how=course.how,
        spec=chart_spec(
            plots.over_steps(course, since_step=verdict.since_step, best_step=verdict.best_step)
        ),
        table=(
            tuple(f"step {course.steps[i]:,}" for i in chosen),
            tuple(
                (
                    name,
                    tuple(
                        cell(word(values[i]), otherwise="no reading at this step") for i in chosen
                    ),
                )
                for name, values in course.values.items()
            ),
        ),
    )


def _head(head: HeadReadings | None) -> list[tuple[str, str, str]]:
    """Title, value and caption of each reading of the head that there is."""
    if head is None:
        return []
    rows = [(one.title, significant(getattr(head, one.name)), one.caption) for one in HEAD_READINGS]
    return [(title, value, caption) for title, value, caption in rows if value is not None]


def _chance(diagnosis: Diagnosis) -> str | None:
    labels = diagnosis.about.get("labels")
    return percent(labels.get("largest class")) if isinstance(labels, Mapping) else None


def _paired(diagnosis: Diagnosis) -> list[tuple[str, str, str]]:
    """Alignment beside uniformity, of each part with two views: the two are read together."""
    return [
        (part, significant(r.alignment) or "", significant(r.uniformity) or "")
        for part, r in diagnosis.readings.items()
        if math.isfinite(r.alignment) and math.isfinite(r.uniformity)
    ]
