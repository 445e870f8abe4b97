"""The causes that the marks can name, one row each; a new one is a new row here."""

from offdiag.diagnostics.causes.cause import Cause, Red
from offdiag.diagnostics.causes.evidence import Evidence

GRADIENT_IN_TARGET = 0.01


def _gradient_reaches_the_target(evidence: Evidence) -> Red | bool | None:
    series = evidence.series("target/gradient")
    if not series:
        return None
    since = evidence.since("target/gradient", lambda share: share > GRADIENT_IN_TARGET)
    return True if since is None else Red(value=series[-1][1], step=since, part="target")


CAUSES: tuple[Cause, ...] = (
    Cause(
        key="gradient-in-target",
        title="the gradient reaches the target",
        mark="share of the gradient at the projection that does not come through the predictor",
        bound=GRADIENT_IN_TARGET,
        bound_source="0 with a stop-gradient, exactly; rounding stays below 1e-4",
        sentence="The gradient reaches the target: {value} of the gradient at the projection does "
        "not come through the predictor (0 with a stop-gradient).",
        change={
            "torch": "detach the target where the loss takes it: z = z.detach(), or compute it "
            "under torch.no_grad()",
            "offdiag": "--stop-gradient target (RunConfig(stop_gradient='target'))",
        },
        source="Chen & He 2021, arXiv 2011.10566",
        look=_gradient_reaches_the_target,
    ),
)
