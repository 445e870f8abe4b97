"""The causes that the marks can name, one row each; a new one is a new row here.

Bounds come from exact values (a stop-gradient gives 0), from the literature's settings, or from
runs: "tuned" says that benchmarks/causes.py's tuning half set it.
"""

from offdiag.diagnostics.causes import looks
from offdiag.diagnostics.causes.cause import Cause, Strength

CAUSES: tuple[Cause, ...] = (
    Cause(
        key="not-finite",
        title="weights, outputs or loss are not finite",
        mark="share of sampled weights, or of outputs, that are finite; the loss",
        bound=1.0,
        bound_source="exact",
        sentence="From step {step} on numbers are not finite ({part}).",
        change={
            "torch": "go back to a checkpoint before step {step}; lower the learning rate or warm "
            "it up, clip gradients, add eps to divisions and roots in the loss",
        },
        source="IEEE 754",
        look=looks.first_of(
            looks.below("loss/finite", 1.0, part="loss"),
            looks.below("encoder/finite", 1.0, part="encoder"),
            looks.below("projector/finite", 1.0, part="projector"),
            looks.below("encoder/outputs_finite", 1.0, part="encoder"),
            looks.below("projector/outputs_finite", 1.0, part="projector"),
        ),
    ),
    Cause(
        key="inputs-not-finite",
        title="the inputs hold nan or inf",
        mark="share of input values that are finite",
        bound=1.0,
        bound_source="exact",
        sentence="Only {value} of the input values are finite, from step {step} on.",
        change={"torch": "find and drop the rows with nan or inf before the encoder"},
        source="IEEE 754",
        look=looks.below("inputs/finite", 1.0, part="encoder"),
    ),
    Cause(
        key="inputs-constant",
        title="the inputs are constant",
        mark="share of input rows without any variation",
        bound=0.5,
        bound_source="exact: a constant row says nothing",
        sentence="{value} of the input rows are constant: the encoder is shown nothing.",
        change={
            "torch": "look at a batch as it enters the encoder: a transform returns zeros, a "
            "normalisation divides by too much, or the wrong field is read",
        },
        source="by definition",
        look=looks.above("inputs/constant", 0.5, part="encoder"),
    ),
    Cause(
        key="small-batch",
        title="a batch of very few rows",
        mark="rows of one forward pass, in one process",
        bound=8,
        bound_source="the variance of fewer than 8 rows is wrong by half",
        sentence="A forward pass has {value} rows: batch statistics, negatives or covariances of "
        "so few say nothing.",
        change={
            "torch": "more rows in each process and forward pass (64 or more); accumulated pieces "
            "do not count together; SyncBatchNorm over processes",
        },
        source="sampling: the relative deviation of a variance is sqrt(2 / (n - 1))",
        look=looks.below("modes/rows", 8),
    ),
    Cause(
        key="evaluation-mode",
        title="the model trains in evaluation mode",
        mark="share of the calls that were made in evaluation mode, with gradient",
        bound=0.5,
        bound_source="exact",
        sentence="The model trains in evaluation mode: BatchNorm uses stored statistics, which do "
        "not follow.",
        change={"torch": "model.train() before the loop, and again after each evaluation"},
        source="torch.nn.BatchNorm1d",
        look=looks.above("modes/evaluated", 0.5),
        harmless_alone=True,
    ),
    Cause(
        key="gradient-in-target",
        title="the gradient reaches the target",
        mark="share of the gradient at the predictor's input that does not come through the "
        "predictor, where it draws the target to the prediction",
        bound=0.01,
        bound_source="0 with a stop-gradient, exactly; rounding stays below 1e-4",
        sentence="The gradient reaches the target: {value} of the gradient at the projection does "
        "not come through the predictor (0 with a stop-gradient).",
        change={
            "torch": "detach the target where the loss takes it, z = z.detach(), or compute it "
            "under torch.no_grad()",
            "offdiag": "give the target without gradient: stop_gradient='target' "
            "(--stop-gradient target)",
        },
        source="Chen & He 2021, arXiv 2011.10566",
        look=looks.gradient_in_target(0.01, purity=0.3),
        harmless_alone=True,
    ),
    Cause(
        key="views-identical",
        title="the two views are identical",
        mark="difference of the features of the two views, over their spread",
        bound=1e-3,
        bound_source="0 exactly for equal inputs; augmented views give above 0.05",
        sentence="The two views are the same: their features differ by {value} of their spread.",
        change={
            "torch": "apply the random transform twice, once for each view: (t(x), t(x)), and draw "
            "its random numbers for each call",
            "lightly": "give the dataset a two-view transform (SimCLRTransform, DINOTransform) and "
            "take both views of the batch: x0, x1 = batch[0]",
            "offdiag": "choose views with --views, not none",
        },
        source="by definition",
        look=looks.views_equal(1e-3),
    ),
    Cause(
        key="predictor-frozen",
        title="the predictor does not train",
        mark="share of the predictor's parameters in the optimiser; its update while others move",
        bound=0.5,
        bound_source="exact",
        sentence="The predictor does not train: the optimiser holds or moves {value} of it.",
        change={
            "torch": "optimizer.add_param_group({{'params': predictor.parameters()}}), and "
            "predictor.requires_grad_(True)",
            "lightly": "give the optimiser all parameters, prediction_head included: "
            "torch.optim.SGD(self.parameters(), ...)",
            "offdiag": "choose a head that trains, and --head-lr above 0",
        },
        source="Chen & He 2021, arXiv 2011.10566, section 4.2: a fixed predictor does not converge",
        look=looks.not_trained("predictor"),
        harmless_alone=True,
    ),
    Cause(
        key="no-predictor",
        title="there is no predictor, and the loss only attracts",
        mark="purity with which the gradient at the projection draws the two views together",
        bound=0.99999,
        bound_source="1 exactly for attraction alone, up to float32's rounding; healthy SimCLR "
        "reaches 0.995, Barlow Twins 0.99997",
        sentence="There is no predictor, and {value} of the gradient at the projection only draws "
        "the views together: nothing keeps the outputs apart.",
        change={
            "torch": "put a trainable predictor on the online branch: p = predictor(z)",
            "lightly": "self.prediction_head = BYOLPredictionHead(...) or "
            "SimSiamPredictionHead(...), and give its output to the loss",
            "offdiag": "--head off-diagonal, linear or mlp",
        },
        source="Grill et al. 2020, arXiv 2006.07733, table 5; Chen & He 2021, arXiv 2011.10566",
        look=looks.only_attraction(0.99999, predictor=True),
    ),
    Cause(
        key="nothing-apart",
        title="no term of the loss keeps the outputs apart",
        mark="purity with which the gradient at the projection draws the two views together",
        bound=0.99999,
        bound_source="1 exactly for attraction alone, up to float32's rounding; healthy SimCLR "
        "reaches 0.995, Barlow Twins 0.99997",
        sentence="{value} of the gradient at the projection only draws the views together: the "
        "loss has no term that keeps the outputs apart, and there is no predictor.",
        change={
            "torch": "add what the method has against collapse: variance and covariance terms "
            "(VICReg 25, 25, 1), the off-diagonal term (Barlow Twins), negatives, or a predictor "
            "and a stop-gradient",
            "lightly": "VICRegLoss(lambda_param=25, mu_param=25, nu_param=1), "
            "BarlowTwinsLoss(lambda_param=5e-3): no weight at 0",
        },
        source="Bardes et al. 2022, arXiv 2105.04906; Zbontar et al. 2021, arXiv 2103.03230",
        look=looks.only_attraction(0.99999, predictor=False),
    ),
    Cause(
        key="loss-sign",
        title="the loss pushes the two views apart",
        mark="purity with which the gradient at the projection draws the views together",
        bound=-0.8,
        bound_source="-1 exactly for a distance with its sign turned",
        sentence="The gradient at the projection drives the two views apart ({value}; 1 draws them "
        "together): the sign of a term is turned.",
        change={"torch": "minimise the distance or minus the similarity, not their opposites"},
        source="by definition",
        look=looks.loss_repels(-0.8),
    ),
    Cause(
        key="target-trained",
        title="the optimiser trains the target network",
        mark="share of the target's parameters in the optimiser, with movement that is no average",
        bound=0.0,
        bound_source="exact",
        sentence="The optimiser holds {value} of the target network and moves it.",
        change={
            "torch": "give the optimiser the online parameters alone, and "
            "target.requires_grad_(False)",
            "lightly": "deactivate_requires_grad(self.backbone_momentum), and the same for "
            "projection_head_momentum",
        },
        source="Grill et al. 2020, arXiv 2006.07733",
        look=looks.target_trained(0.2),
    ),
    Cause(
        key="target-frozen",
        title="the target network is never updated",
        mark="share of the target's weights that move between two steps; distance to the online "
        "network",
        bound=0.0,
        bound_source="exact; asked once the two are 0.3 % apart, so that rounding hides nothing",
        sentence="The target network never moves (momentum 1), and is {gap} of its weights away "
        "from the online network.",
        change={
            "torch": "after each optimiser step: target = m * target + (1 - m) * online, with m "
            "from 0.99 to 0.999",
            "lightly": "call update_momentum(self.backbone, self.backbone_momentum, m=0.99) in "
            "training_step, and the same for the projection head",
            "byol-pytorch": "learner.update_moving_average() after each optimizer.step()",
            "BGRL": "model.update_target_network(mm) after each optimizer.step()",
            "offdiag": "--momentum below 1",
        },
        source="Grill et al. 2020, arXiv 2006.07733, table 5a: a random target reaches 18.8 %",
        look=looks.target_frozen(0.003),
        harmless_alone=True,
    ),
    Cause(
        key="encoder-frozen",
        title="the encoder does not train",
        mark="share of the encoder's parameters in the optimiser; its update while others move",
        bound=0.5,
        bound_source="exact",
        sentence="The encoder does not train: the optimiser holds or moves {value} of it.",
        change={
            "torch": "optimizer.add_param_group({{'params': encoder.parameters()}}), "
            "encoder.requires_grad_(True), and no torch.no_grad() or detach() behind it",
        },
        source="by definition",
        look=looks.not_trained("encoder"),
    ),
    Cause(
        key="sharpening-off",
        title="the teacher is not sharpened",
        mark="the student's temperature over the teacher's",
        bound=1.1,
        bound_source="published settings are 1.4 to 4; at 1 uniform outputs are a minimum",
        sentence="The teacher's assignments are not sharper than the student's (temperatures in "
        "the ratio {value}): uniform assignments satisfy the loss.",
        change={
            "torch": "teacher temperature below the student's: 0.04 against 0.1",
            "lightly, DINO": "DINOLoss(teacher_temp=0.04, student_temp=0.1)",
        },
        source="Caron et al. 2021, arXiv 2104.14294, figure 7",
        look=looks.sharpening_off(1.1),
    ),
    Cause(
        key="centring-off",
        title="the teacher is not centred",
        mark="norm of the loss's centre after the first step",
        bound=0.0,
        bound_source="exact",
        sentence="The centre of the teacher's outputs stays 0: one prototype can take everything.",
        change={
            "torch": "update the centre with the teacher's batch mean, momentum 0.9",
            "lightly, DINO": "DINOLoss(center_momentum=0.9)",
        },
        source="Caron et al. 2021, arXiv 2104.14294, figure 7",
        look=looks.no_centre(),
    ),
    Cause(
        key="inputs-scale",
        title="the inputs are not normalised",
        mark="standard deviation of the input values",
        bound=20,
        bound_source="normalised inputs have 1; bounds 0.01 and 20",
        sentence="The inputs have a standard deviation of {value} (about 1 is usual).",
        change={"torch": "normalise the inputs: (x - mean) / std, by channel"},
        source="LeCun et al. 1998, Efficient BackProp",
        look=looks.outside("inputs/std", 0.01, 20.0),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="inputs-alike",
        title="the same inputs again and again",
        mark="share of a batch's rows that equal another row",
        bound=0.5,
        bound_source="distinct images: 0",
        sentence="{value} of a batch's rows equal another row of it.",
        change={"torch": "draw without replacement, and look for duplicates in the data"},
        source="by definition",
        look=looks.above("inputs/alike", 0.5, part="encoder", readings=2),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="views-unpaired",
        title="the two views are of different images",
        mark="share of rows whose nearest row of the other view is their partner, in the first "
        "steps, against chance",
        bound=0.0,
        bound_source="binomial: within two deviations of one hit a batch",
        sentence="The two views do not show the same images: {value} of the rows find their "
        "partner in the other view, by chance it were {chance}.",
        change={
            "torch": "draw both views from one sample, and not from two loaders that shuffle "
            "apart; if they do belong together, crop and distort less",
        },
        source="by definition",
        look=looks.views_unpaired(trials=96),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="stored-statistics",
        title="BatchNorm uses stored statistics",
        mark="share of BatchNorm layers in evaluation mode while their parts train",
        bound=0.5,
        bound_source="0 or 1 in practice",
        sentence="{value} of the BatchNorm layers use stored statistics while the rest trains.",
        change={"torch": "call .train() on the BatchNorm layers too: they are in evaluation mode"},
        source="torch.nn.BatchNorm1d; Grill et al. 2020, arXiv 2006.07733",
        look=looks.unless(
            looks.above("modes/stored_statistics", 0.5),
            lambda evidence: evidence.last("modes/evaluated") > 0.5,
        ),
        harmless_alone=True,
    ),
    Cause(
        key="target-copy",
        title="the target network follows too fast",
        mark="the momentum as it is, by least squares",
        bound=0.8,
        bound_source="published settings are 0.9 to 0.9999; BYOL at 0 collapses or not by its "
        "predictor's rate",
        sentence="The target network is all but a copy: its momentum is {value}.",
        change={
            "torch": "raise the momentum of the average to 0.99 or more",
            "lightly": "update_momentum(online, target, m=0.99)",
            "offdiag": "--momentum 0.99",
        },
        source="Grill et al. 2020, arXiv 2006.07733, table 5a",
        look=looks.target_copied(0.8),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="projector-frozen",
        title="the projector does not train",
        mark="share of the projector's parameters in the optimiser; its update while others move",
        bound=0.5,
        bound_source="exact",
        sentence="The projector does not train: the optimiser holds or moves {value} of it.",
        change={"torch": "optimizer.add_param_group({{'params': projector.parameters()}})"},
        source="by definition",
        look=looks.not_trained("projector"),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="step-too-small",
        title="the steps are too small to learn",
        mark="relative update of the encoder in one step",
        bound=1e-6,
        bound_source="runs that learn: 1e-4 to 1e-2",
        sentence="A step changes the encoder by {value} of its weights: nothing is learned at this "
        "rate.",
        change={
            "torch": "raise the learning rate a hundredfold, and look at where its schedule starts",
            "offdiag": "--lr, --warmup-epochs",
        },
        source="You et al. 2017, arXiv 1708.03888: 1e-3 is usual",
        look=looks.step_too_small(1e-6),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="step-too-large",
        title="the steps are too large",
        mark="relative update of a part in one step",
        bound=0.2,
        bound_source="tuned: 0.2 once, or 0.05 throughout; healthy runs start below 0.04, later "
        "1e-4 to 1e-2",
        sentence="A step changes the {part} by {value} of its weights.",
        change={"torch": "lower the learning rate tenfold, or warm it up"},
        source="Chen & He 2021, arXiv 2011.10566; You et al. 2017, arXiv 1708.03888",
        look=looks.step_too_large(0.05, once=0.2),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="one-code",
        title="one prototype takes everything",
        mark="entropy of the mean assignment, over the log of the number of prototypes",
        bound=0.1,
        bound_source="0: one prototype; published runs stay above 0.5",
        sentence="All images go to a few prototypes: the entropy of the mean assignment is {value} "
        "of its maximum.",
        change={
            "torch": "centre the teacher, or balance assignments (Sinkhorn, mean entropy term)"
        },
        source="Caron et al. 2021, arXiv 2104.14294; Assran et al. 2022, arXiv 2204.07141",
        look=looks.one_code(0.1),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="uniform-codes",
        title="no image is assigned to a prototype",
        mark="mean entropy of the teacher's assignments, over its maximum",
        bound=0.98,
        bound_source="1: uniform",
        sentence="The teacher's assignments are uniform: their mean entropy is {value} of the "
        "maximum.",
        change={"torch": "lower the teacher's temperature (0.04), or warm it up from there"},
        source="Caron et al. 2021, arXiv 2104.14294, figure 7",
        look=looks.uniform_codes(0.98, steps=50),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="term-missing",
        title="a term of the loss does nothing",
        mark="gradient norm of each named term at the projection, over the largest",
        bound=1e-3,
        bound_source="tuned",
        sentence="The loss's term {term} has {value} of the largest term's gradient.",
        change={"torch": "raise the weight of {term}, and look at its sign and its scale"},
        source="Bardes et al. 2022, arXiv 2105.04906, table 7",
        look=looks.term_missing(1e-3),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="variance-unheld",
        title="nothing holds the variance of the outputs",
        mark="share of the gradient at the projection that shrinks the outputs; their spread",
        bound=0.1,
        bound_source="tuned",
        sentence="The loss shrinks the outputs at every reading ({value}), and their spread has "
        "fallen to {fallen} of its largest.",
        change={
            "torch": "raise the weight of the variance term, or normalise the outputs that the "
            "loss compares",
            "lightly": "VICRegLoss(mu_param=25)",
        },
        source="Bardes et al. 2022, arXiv 2105.04906",
        look=looks.variance_unheld(0.1),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="decay-rules",
        title="weight decay rules over the gradient",
        mark="pull of weight decay over that of the gradient, on the weights",
        bound=1.0,
        bound_source="equality; healthy runs stay below 0.3",
        sentence="Weight decay pulls {value} times as hard as the gradient on the {part}.",
        change={
            "torch": "lower weight_decay tenfold, and leave biases and normalisers out of it",
            "offdiag": "--weight-decay, ten times lower",
        },
        source="Wang et al. 2021, arXiv 2110.04947",
        look=looks.decay_rules(1.0),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="predictor-slow",
        title="the predictor is too slow",
        mark="relative update of the predictor over that of the encoder",
        bound=0.1,
        bound_source="healthy SimSiam on digits: 1 to 6",
        sentence="The predictor moves at {value} of the encoder's pace.",
        change={
            "torch": "give the predictor the encoder's learning rate or ten times it, constant",
            "offdiag": "--head-lr-scale 1 to 10",
        },
        source="Tian et al. 2021, arXiv 2102.06810; Chen & He 2021, arXiv 2011.10566",
        look=looks.pace("predictor", "encoder", 0.1),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="encoder-slow",
        title="the encoder is too slow for the projector",
        mark="relative update of the encoder over that of the projector",
        bound=0.01,
        bound_source="tuned; healthy runs: 0.2 to 5",
        sentence="The encoder moves at {value} of the projector's pace.",
        change={"torch": "give the encoder's parameter group the projector's learning rate"},
        source="by the same argument as for the predictor",
        look=looks.pace("encoder", "projector", 0.01),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="bottleneck",
        title="a layer is too narrow",
        mark="outputs of the narrowest linear layer of encoder or projector",
        bound=8,
        bound_source="no linear layer adds a direction; embeddings in use are 32 and wider",
        sentence="A linear layer of the {part} has {value} outputs: no more directions than that "
        "pass it.",
        change={"torch": "widen the narrowest layer of the {part}"},
        source="linear algebra",
        look=looks.bottleneck(8),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="dead-units",
        title="most units are dead",
        mark="share of output units that are the same for all rows",
        bound=0.5,
        bound_source="healthy ReLU networks: below 0.3",
        sentence="{value} of the {part}'s outputs are the same whatever the input.",
        change={
            "torch": "lower the learning rate, or put a normaliser before the ReLU; look at the "
            "initialisation",
        },
        source="Lu et al. 2019, arXiv 1903.06733",
        look=looks.first_of(
            looks.above("encoder/dead", 0.5, part="encoder", readings=2),
            looks.above("projector/dead", 0.5, part="projector", readings=2),
        ),
        strength=Strength.MEASURED,
    ),
    Cause(
        key="stale-target",
        title="the target's BatchNorm statistics are stale",
        mark="distance of the target's stored means from the online network's, in its deviations",
        bound=1.0,
        bound_source="tuned",
        sentence="The target uses stored BatchNorm statistics that are {value} deviations away "
        "from the online network's.",
        change={
            "torch": "leave the target in training mode, or copy the buffers with the weights: for "
            "a, b in zip(target.buffers(), online.buffers()): a.copy_(b)",
        },
        source="Grill et al. 2020, arXiv 2006.07733, appendix",
        look=looks.above("target/stale", 1.0, part="target", readings=2),
        strength=Strength.MEASURED,
        harmless_alone=True,
    ),
    Cause(
        key="underflow",
        title="gradients vanish in half precision",
        mark="share of gradient entries that are exactly 0, in float16",
        bound=0.5,
        bound_source="float16 ends at 6e-8",
        sentence="{value} of the {part}'s gradient entries are 0 in half precision.",
        change={"torch": "scale the loss (torch.amp.GradScaler), or train in bfloat16"},
        source="Micikevicius et al. 2018, arXiv 1710.03740",
        look=looks.unless(
            looks.above("encoder/gradient_zeros", 0.5, part="encoder", readings=3),
            lambda evidence: evidence.last("precision/half") != 1.0,
        ),
        strength=Strength.MEASURED,
    ),
)
