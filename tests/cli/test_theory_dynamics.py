import json

import pytest

from offdiag._checks import ConfigError
from offdiag.cli.main import main
from offdiag.cli.theory_dynamics import with_settings
from offdiag.plots.dynamics import wants_log_time
from offdiag.theory.cosine import Cosine
from offdiag.theory.isoloss import IsoLoss
from offdiag.theory.solve import generators, solve
from offdiag.theory.wen_li import WenLi


def test_verify_measures_the_claims_of_another_dynamics(tmp_path, capsys):
    path = tmp_path / "claims.json"
    command = ["theory", "verify", "--dynamics", "augmentation-graph", "--starts", "3"]
    main([*command, "--jobs", "1", "--json", str(path), "--out", str(tmp_path)])
    findings = json.loads(path.read_text())["augmentation-graph"]
    assert [one["state"] for one in findings] == ["held"] * 3
    assert "3 of 3 claims held" in capsys.readouterr().out
    assert "HaoChen" in (tmp_path / "verify.html").read_text()


def test_run_draws_another_dynamics(tmp_path, capsys):
    command = ["theory", "run", "--dynamics", "linear-byol-modes", "--starts", "4"]
    path = tmp_path / "numbers.json"
    settings = ["--set", "weight_decay=0.5", "modes=2"]
    main([*command, *settings, "--out", str(tmp_path), "--json", str(path)])
    numbers = json.loads(path.read_text())
    assert numbers["settings"]["weight_decay"] == 0.5 and numbers["settings"]["modes"] == 2
    assert numbers["shares"]["none"]["count"] == 4
    page = (tmp_path / "theory.html").read_text()
    assert "arXiv 2102.06810" in page
    for name in ("linear-byol-modes.npz", "eigenvalues.svg", "head.pdf"):
        assert (tmp_path / name).stat().st_size > 0
    assert "none" in capsys.readouterr().out


def test_an_unknown_dynamics_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["theory", "verify", "--dynamics", "byol"])
    assert ended.value.code == 2
    assert "choose one of wen-li" in capsys.readouterr().err


def test_settings_are_read_by_the_type_of_their_field():
    changed = with_settings(
        IsoLoss(), ["eigenvalues=.5,.25", "equalised=no", "stop-gradient=no", "power=1"]
    )
    assert changed == IsoLoss(
        eigenvalues=(0.5, 0.25), equalised=False, stop_gradient=False, power=1.0
    )
    assert with_settings(Cosine(), ["order=paper", "modes=3"]).modes == 3
    assert with_settings(WenLi(), ["problem.dim=50"]).problem.dim == 50


@pytest.mark.parametrize("wrong", ["power", "power=much", "size=3", "equalised=1"])
def test_wrong_settings_are_sentences(wrong):
    with pytest.raises(ConfigError, match="name=value|number|choose one of|yes or no"):
        with_settings(IsoLoss(), [wrong])


def test_time_is_drawn_in_log_where_the_change_comes_early():
    dynamics = IsoLoss(eigenvalues=(0.1,))
    start = dynamics.start(generators(1)[0])
    for time, log in ((4.0, False), (4_000.0, True)):
        run = solve(dynamics, start, time=time)
        assert wants_log_time(run.time, list(dynamics.readings(run).values())) == log
