"""Laws of finding parts by the names that packages use."""

import pytest
import torch
from torch import nn

from offdiag._checks import ConfigError
from offdiag.diagnostics.parts import find_parts, look, parameters_by_part, twins


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
    "lightly MSN": (
        lambda: holder(
            backbone=line(),
            projection_head=line(),
            anchor_backbone=line(),
            anchor_projection_head=line(),
        ),
        {
            "encoder": "anchor_backbone",
            "projector": "anchor_projection_head",
            "target": "projection_head",
        },
    ),
    "BGRL": (
        lambda: holder(online_encoder=line(), predictor=line(), target_encoder=line()),
        {"encoder": "online_encoder", "predictor": "predictor", "target": "target_encoder"},
    ),
    "DINOv2": (
        lambda: holder(
            student=nn.ModuleDict({"backbone": line(), "dino_head": line(), "ibot_head": line()}),
            teacher=nn.ModuleDict({"backbone": line(), "dino_head": line(), "ibot_head": line()}),
        ),
        {
            "encoder": "student.backbone",
            "projector": "student.dino_head",
            "target": "teacher.dino_head",
        },
    ),
    "DINOv3": (
        lambda: holder(
            student=nn.ModuleDict({"backbone": line(), "dino_head": line(), "ibot_head": line()}),
            model_ema=nn.ModuleDict({"backbone": line(), "dino_head": line()}),
        ),
        {
            "encoder": "student.backbone",
            "projector": "student.dino_head",
            "target": "model_ema.dino_head",
        },
    ),
    "stable-pretraining DINOv2": (
        lambda: holder(
            backbone=holder(student=line(), teacher=line()),
            cls_head=holder(student=line(), teacher=line()),
            patch_head=holder(student=line(), teacher=line()),
        ),
        {
            "encoder": "backbone.student",
            "projector": "cls_head.student",
            "target": "cls_head.teacher",
        },
    ),
    "LeJEPA": (
        lambda: holder(backbone=line(), proj=line()),
        {"encoder": "backbone", "projector": "proj"},
    ),
    "LeWM": (
        lambda: holder(
            encoder=line(),
            action_encoder=line(),
            projector=line(),
            predictor=line(),
            pred_proj=line(),
        ),
        {"encoder": "encoder", "projector": "projector", "predictor": "predictor"},
    ),
    "eb_jepa": (
        lambda: holder(encoder=line(), action_encoder=line(), predictor=line()),
        {"encoder": "encoder", "predictor": "predictor"},
    ),
    "TD-MPC2": (
        lambda: holder(_encoder=nn.ModuleDict({"state": line()}), _dynamics=line(), _reward=line()),
        {"encoder": "_encoder.state", "predictor": "_dynamics"},
    ),
    "self-predictive RL": (
        lambda: holder(encoder=line(), dynamics=line(), projection=line(), target_encoder=line()),
        {
            "encoder": "encoder",
            "projector": "projection",
            "predictor": "dynamics",
            "target": "target_encoder",
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


def test_a_target_is_paired_with_the_network_that_it_averages():
    model = holder(
        backbone=nn.Linear(3, 4),
        projection_head=nn.Linear(4, 2),
        prediction_head=nn.Linear(2, 2),
        backbone_momentum=nn.Linear(3, 4),
        projection_head_momentum=nn.Linear(4, 2),
    )
    pairs = twins(look(model))
    assert {(id(a), id(b)) for a, b in pairs} == {
        (id(model.backbone), id(model.backbone_momentum)),
        (id(model.projection_head), id(model.projection_head_momentum)),
    }


def test_each_parameter_belongs_to_one_part():
    model = holder(encoder=holder(conv1=line(), fc=nn.Sequential(line())), predictor=line())
    parts = parameters_by_part(look(model))
    assert [p.data_ptr() for p in parts["encoder"]] == [
        p.data_ptr() for p in model.encoder.conv1.parameters()
    ]
    assert len(parts["projector"]) == len(parts["predictor"]) == 2


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Dinov2Config", "Dinov2Model"), {"encoder": "Dinov2Model"}),
        (("ViTMAEConfig", "ViTMAEForPreTraining"), {"encoder": "vit"}),
        (("IJepaConfig", "IJepaModel"), {"encoder": "IJepaModel"}),
        (("VJEPA2Config", "VJEPA2Model"), {"encoder": "encoder", "predictor": "predictor"}),
        (("Wav2Vec2Config", "Wav2Vec2ForPreTraining"), {"encoder": "wav2vec2"}),
        (("HubertConfig", "HubertModel"), {"encoder": "HubertModel"}),
        (("Data2VecAudioConfig", "Data2VecAudioModel"), {"encoder": "Data2VecAudioModel"}),
        (
            ("CLIPConfig", "CLIPModel"),
            {"encoder": "vision_model", "projector": "visual_projection"},
        ),
        (("SiglipConfig", "SiglipModel"), {"encoder": "vision_model"}),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
@pytest.mark.slow
def test_models_of_transformers_are_encoders(names, parts):
    """Built without memory: on the meta device, at their default sizes."""
    transformers = pytest.importorskip("transformers")
    config, model = (getattr(transformers, name) for name in names)
    with torch.device("meta"):
        built = model(config())
    assert {part: tap.name for part, tap in look(built).taps.items()} == parts


@pytest.mark.slow
def test_a_model_of_timm_is_an_encoder():
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224")
    assert look(model).taps["encoder"].module is model
