"""Laws of finding parts by the names that packages use."""

import pytest
import torch
from torch import nn

from offdiag._checks import ConfigError
from offdiag.diagnostics.parts import find_parts


def holder(**children: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, child in children.items():
        setattr(module, name, child)
    return module


def line() -> nn.Module:
    return nn.Linear(2, 2)


def paths(model, taps) -> dict[str, str]:
    """Where each part was found, in words: the path of the module, and what is read of it."""
    names = {id(module): name for name, module in model.named_modules()}
    return {
        part: ("<" if tap.inputs else "")
        + names[id(tap.module)]
        + ("" if tap.index is None else f"[{tap.index}]")
        for part, tap in taps.items()
    }


ONLINE = {"encoder": "backbone", "projector": "projection_head", "predictor": "prediction_head"}
SOLO = {"encoder": "backbone", "projector": "projector", "predictor": "predictor"}
MODELS = {
    "lightly SimSiam": (
        lambda: holder(backbone=line(), projection_head=line(), prediction_head=line()),
        ONLINE,
    ),
    "lightly BYOL": (
        lambda: holder(
            backbone=line(),
            projection_head=line(),
            prediction_head=line(),
            backbone_momentum=line(),
            projection_head_momentum=line(),
        ),
        {**ONLINE, "target": "projection_head_momentum"},
    ),
    "lightly DINO": (
        lambda: holder(
            student_backbone=line(),
            student_head=line(),
            teacher_backbone=line(),
            teacher_head=line(),
        ),
        {"encoder": "student_backbone", "projector": "student_head", "target": "teacher_head"},
    ),
    "solo-learn SimSiam": (
        lambda: holder(backbone=line(), classifier=line(), projector=line(), predictor=line()),
        SOLO,
    ),
    "solo-learn BYOL": (
        lambda: holder(
            backbone=line(),
            classifier=line(),
            projector=line(),
            predictor=line(),
            momentum_backbone=line(),
            momentum_projector=line(),
        ),
        {**SOLO, "target": "momentum_projector"},
    ),
    "solo-learn 1.0.2 SimSiam": (
        lambda: holder(
            encoder=holder(fc=nn.Identity()), classifier=line(), projector=line(), predictor=line()
        ),
        {"encoder": "encoder", "projector": "projector", "predictor": "predictor"},
    ),
    "stable-pretraining VICReg": (
        lambda: holder(backbone=line(), projector=line()),
        {"encoder": "backbone", "projector": "projector"},
    ),
    "stable-pretraining BYOL": (
        lambda: holder(
            backbone=holder(student=line(), teacher=line()),
            projector=holder(student=line(), teacher=line()),
            predictor=line(),
        ),
        {
            "encoder": "backbone.student",
            "projector": "projector.student",
            "predictor": "predictor",
            "target": "projector.teacher",
        },
    ),
    "simsiam": (
        lambda: holder(encoder=holder(conv1=line(), fc=nn.Sequential(line())), predictor=line()),
        {"encoder": "<encoder.fc", "projector": "encoder.fc", "predictor": "predictor"},
    ),
    "byol-pytorch": (
        lambda: holder(
            net=line(),
            online_encoder=holder(net=line(), projector=line()),
            online_predictor=line(),
            target_encoder=holder(net=line(), projector=line()),
        ),
        {
            "encoder": "online_encoder[1]",
            "projector": "online_encoder[0]",
            "predictor": "online_predictor",
            "target": "target_encoder[0]",
        },
    ),
    "I-JEPA": (
        lambda: holder(encoder=line(), predictor=line(), target_encoder=line()),
        {"encoder": "encoder", "predictor": "predictor", "target": "target_encoder"},
    ),
    "DINO": (
        lambda: holder(
            student=holder(backbone=line(), head=line()),
            teacher=holder(backbone=line(), head=line()),
        ),
        {"encoder": "student.backbone", "projector": "student.head", "target": "teacher.head"},
    ),
    "offdiag BYOL": (
        lambda: holder(
            encoder=line(),
            projector=line(),
            head=line(),
            target_encoder=line(),
            target_projector=line(),
        ),
        {
            "encoder": "encoder",
            "projector": "projector",
            "predictor": "head",
            "target": "target_projector",
        },
    ),
    "a method within a LightningModule": (
        lambda: holder(
            loss=line(), method=holder(backbone=line(), projector=line(), predictor=line())
        ),
        {
            "encoder": "method.backbone",
            "projector": "method.projector",
            "predictor": "method.predictor",
        },
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_found_by_the_names_of(name):
    build, expected = MODELS[name]
    model = build()
    assert paths(model, find_parts(model)) == expected


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda module: torch.compile(module, backend="eager"),
        lambda module: nn.DataParallel(torch.compile(module, backend="eager")),
    ],
    ids=["data parallel", "compiled", "both"],
)
def test_a_wrapper_hides_nothing(wrap):
    model = holder(backbone=line(), projector=line(), predictor=line())
    assert paths(model, find_parts(wrap(model))) == SOLO


def test_a_wrapped_part_is_read_where_it_is_called():
    compiled = torch.compile(line(), backend="eager")
    model = holder(backbone=compiled, projector=line())
    assert find_parts(model)["encoder"].module is compiled


def test_modules_kept_apart_are_given_by_name():
    student, teacher = holder(backbone=line(), head=line()), holder(backbone=line(), head=line())
    taps = find_parts({"student": nn.DataParallel(student), "teacher": teacher})
    assert taps["encoder"].module is student.backbone
    assert taps["target"].module is teacher.head


def test_what_is_told_wins_over_what_is_found():
    model = holder(backbone=line(), projector=line(), mine=holder(head=line()))
    taps = find_parts(model, encoder=model.mine, predictor="mine.head")
    assert taps["encoder"].module is model.mine
    assert taps["projector"].module is model.projector
    assert taps["predictor"].module is model.mine.head


def test_a_target_that_is_the_online_network_is_no_target():
    shared = line()
    model = holder(encoder=shared, predictor=line(), target_encoder=shared)
    assert "target" not in find_parts(model)


def test_nothing_found_is_one_sentence_with_the_children():
    with pytest.raises(ConfigError, match=r"children of Module are trunk, tail\. Say which"):
        find_parts(holder(trunk=line(), tail=line()))


def test_a_name_that_leads_nowhere_is_one_sentence_with_the_children():
    with pytest.raises(ConfigError, match=r"no module named 'nett\.a' for the encoder; .* net\."):
        find_parts(holder(net=line()), encoder="nett.a")


def test_of_several_outputs_the_first_that_looks_like_embeddings_is_read():
    tap = find_parts(None, encoder=line())["encoder"]
    loss, rows = torch.zeros(()), torch.ones(3, 2)
    assert tap.pick((), {"loss": loss, "codes": rows.long(), "feats": rows}) is rows
    assert tap.pick((), (loss, [rows])) is rows
    assert tap.pick((), loss) is None
