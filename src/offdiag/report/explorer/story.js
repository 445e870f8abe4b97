"use strict";
// A trajectory in sentences: what happened when, as a first-year student would ask it.
const story = (() => {
  const { words } = charts;
  const PARTS = 4; // samples of each step
  const MARKS = ["I", "II", "III", "IV"];
  const below = (n) => "₀₁₂₃₄₅₆₇₈₉"[n];
  const entry = (j, r) => `E${below(j + 1)}${below(r + 1)}`;
  const neuron = (j) => `neuron ${j + 1}`;
  const capital = (text) => text[0].toUpperCase() + text.slice(1);
  const percent = (x) =>
    `${x > 0.995 && x < 1 ? "over 99" : x < 0.005 && x > 0 ? "under 1" : Math.round(100 * x)}\u00a0%`;
  const times = (folds) => {
    const factor = Math.exp(folds);
    return factor > 1.05 || factor < 0.95 ? `${words(factor)} times` : "hardly at all";
  };

  // How a time compares to another, from their ratio.
  const pace = (ratio) =>
    ratio > 1.05
      ? `${words(ratio)} times later`
      : ratio < 0.95
        ? `${words(1 / ratio)} times sooner`
        : "at about the same time";

  // When each neuron has learned some feature.
  const lastLearned = (found) =>
    Math.max(
      ...[0, 1].map((j) =>
        Math.min(...found.learned.filter((one) => one.neuron === j).map((one) => one.time)),
      ),
    );

  function featureName(problem, l) {
    const [first, second] = problem.strengths;
    return first === second
      ? `feature ${l + 1}`
      : l === 0
        ? "the strong feature"
        : "the weak feature";
  }

  const OUTCOME = {
    diverse: "both features learned",
    collapsed_strong: "both neurons on the strong feature",
    collapsed_other: "both neurons on the weak feature",
    unlearned: "a neuron learned nothing",
    vanished: "all outputs vanished",
    failed: "integration stopped",
  };

  // Everything that the pictures and sentences need of one start: with the head as set, what
  // the follower's output is made of at every point, and its twin from the same start without
  // a head (null if there is none to begin with).
  function solve(problem, start, time) {
    const read = (which, parts) => {
      const run = wenLi.solve(which, start, time),
        points = wenLi.sample(run, parts);
      const records = points.filter((_, i) => i % parts === 0);
      return {
        run,
        records,
        points,
        found: wenLi.phases(run, records),
        outcome: wenLi.outcome(run),
      };
    };
    const solved = read(problem, PARTS),
      output = solved.found.follower ? solved.found.follower.neuron : 1;
    const made = solved.points.map((point) =>
      wenLi.composition(solved.run.constants, point, output),
    );
    return {
      ...solved,
      output,
      made,
      twin: problem.head ? read({ ...problem, head: false }, 2) : null,
    };
  }

  // The phases in sentences: mark, name, start, end, text.
  function phases({ run, points, found, twin, outcome }) {
    const { leader, follower } = found,
      feature = (l) => featureName(run.problem, l);
    const [one, two, three, four] = found.phases,
      last = words(run.time);
    const out = [];
    const add = (index, phase, text) =>
      out.push({
        index,
        mark: MARKS[index],
        start: phase.start,
        end: phase.end,
        text,
        name: index === 0 && leader?.feature === 1 ? "first feature" : phase.name,
      });
    if (run.status !== kernels.REACHED) {
      const reached = Math.exp(run.states.at(-1).at(-1)) - run.offset;
      out.push({
        index: 4,
        mark: "",
        name: "stopped",
        start: 0,
        end: reached,
        text: `The integration stopped at time ${words(reached)} of ${last}: ${wenLi.WHY[run.status]}.`,
      });
    }
    if (outcome === "vanished") {
      out.push({
        index: 4,
        mark: "",
        name: "complete collapse",
        start: 0,
        end: run.time,
        text: "Both outputs shrink to nothing. Without a normaliser the easiest way to agree is to say nothing at all.",
      });
      return out;
    }
    if (!leader) {
      add(
        0,
        one,
        `No neuron has learned a feature by time ${last}. Waiting takes longer in more dimensions: give the run more time, or lower d.`,
      );
      return out;
    }
    const a = leader.neuron,
      f = leader.feature;
    add(
      0,
      one,
      `${capital(neuron(a))} finds ${feature(f)} at time ${words(one.end)}.` +
        (Math.max(...points[0].c.flat().map(Math.abs)) < 0.3
          ? " Until then both neurons hold almost only noise."
          : ""),
    );
    if (two) {
      const b = follower.neuron,
        g = follower.feature;
      add(
        1,
        two,
        `The head feeds ${feature(f)} from ${neuron(a)} into output ${b + 1}: ${entry(b, a)} rises. ` +
          `${capital(neuron(b))} no longer has to learn it as well.`,
      );
      if (three.complete) {
        const plain = twin ? wenLi.gained(twin.records, b, g, three.start, three.end) : 0;
        add(
          2,
          three,
          `${capital(feature(g))} now grows ${times(three.own)} in ${neuron(b)}, ${feature(f)} ${times(three.other)}. ` +
            `Without a head ${feature(g)} would grow ${times(plain)} in this time.`,
        );
      } else {
        add(
          2,
          three,
          `${capital(neuron(b))} has not learned a feature of its own by time ${last}. Its output lives off the head, and nothing calls the head back.`,
        );
      }
      if (four) {
        add(
          3,
          four,
          four.complete
            ? `Both neurons have a feature of their own. The head is no longer needed and returns to the identity by time ${words(four.end)}.`
            : `Both neurons have a feature of their own. The head is on its way back to the identity at time ${last}.`,
        );
      }
    }
    const ending = conclusion(arguments[0], Boolean(two));
    if (ending)
      out.push({
        index: 4,
        mark: "",
        name: "the end",
        start: run.time,
        end: run.time,
        text: ending,
      });
    return out;
  }

  function conclusion({ run, found, outcome, twin }, substituted) {
    const { problem, constants: k } = run,
      loss = run.losses.at(-1);
    const least = k.normalised ? k.neurons * (1 - k.cross / k.same) : 0;
    const blind =
      loss < least + 0.01
        ? ` The loss, ${words(loss, 3)}, is the smallest there is: it cannot tell this collapse from success.`
        : "";
    if (outcome === "collapsed_strong") {
      const why = !problem.head
        ? ""
        : !problem.stopGradient
          ? " Without the stop-gradient the head pulls the second neuron to the feature of the first."
          : "";
      return `Both neurons end on the strong feature.${why}${blind}`;
    }
    if (outcome === "collapsed_other") return `Both neurons end on the weak feature.${blind}`;
    if (outcome === "diverse" && !problem.head)
      return "Both features are learned without a head: this start was lucky. The dots show how often that happens.";
    if (outcome === "diverse" && !substituted)
      return "The neurons found different features by themselves: this start was lucky and needed no head.";
    if (outcome === "diverse" && twin?.outcome === "diverse")
      return `Without a head this start would learn both features too, ${pace(lastLearned(twin.found) / lastLearned(found))}.`;
    if (outcome === "diverse" && twin)
      return `From the same start without a head: ${OUTCOME[twin.outcome]}.`;
    return null;
  }

  // The sentence under each picture.
  function captions(solved) {
    const { run, found, twin, outcome } = solved,
      { leader, follower } = found;
    const feature = (l) => featureName(run.problem, l),
      k = run.constants;
    const out = { plane: "", features: "", head: "", output: "" };
    const end = wenLi.mainFeature(solved.points.at(-1).c);
    const place = (j) =>
      end[j] < 0 ? `${neuron(j)} on no feature` : `${neuron(j)} on ${feature(end[j])}`;
    out.plane =
      outcome === "vanished"
        ? "Both arrows shrink: nothing is learned."
        : `At the end: ${place(0)}, ${place(1)}.${twin && twin.outcome !== outcome ? ` The grey arrow is the same start without a head: ${OUTCOME[twin.outcome]}.` : ""}`;
    const learned = found.learned
      .filter((one) => Number.isFinite(one.time))
      .sort((x, y) => x.time - y.time);
    out.features =
      learned.length === 0
        ? "No inner product passes one half."
        : `${capital(learned.map((one) => `${neuron(one.neuron)} learns ${feature(one.feature)} at time ${words(one.time)}`).join(", "))}.`;
    if (twin && follower && Number.isFinite(follower.time)) {
      const plain = twin.found.learned.find(
        (one) => one.neuron === follower.neuron && one.feature === follower.feature,
      );
      out.features += Number.isFinite(plain.time)
        ? ` Without a head (grey) ${neuron(follower.neuron)} learns it ${pace(plain.time / follower.time)}.`
        : ` Without a head (grey) ${neuron(follower.neuron)} never learns it.`;
    }
    if (!run.problem.head) {
      out.head = "There is no head: it stays the identity.";
    } else if (!leader || !follower) {
      out.head = "Nothing is learned, and the head has nothing to feed.";
    } else {
      const b = follower.neuron,
        a = leader.neuron,
        last = Math.abs(solved.points.at(-1).head[b][a]);
      const bound = Math.sqrt(k.rho / k.power);
      out.head =
        found.peak < 0.02 * bound
          ? `${entry(b, a)} stays small: nothing is substituted in this start.`
          : `${entry(b, a)} rises to ${words(found.peak)}, ${words(found.peak / Math.sqrt(k.rho))} √ρ, and ${last < 0.02 * found.peak ? "returns to zero" : `is at ${words(last)} at the end`}.`;
    }
    const b = solved.output;
    const most = Math.max(
      ...solved.made.map((one) => one.features.reduce((sum, part) => sum + part.fed, 0)),
    );
    const whole = solved.made.at(-1).features.map((part) => part.own);
    const main = whole.indexOf(Math.max(...whole));
    const word = most > 0.5 ? "Substitution: at" : "At";
    out.output =
      outcome === "vanished"
        ? `Output ${b + 1} shrinks to nothing; the picture shows what is left of it.`
        : most > 0.05
          ? `${word} its peak ${percent(most)} of output ${b + 1} comes from the other neuron, through the head.` +
            (whole[main] > 0.5
              ? ` At the end ${percent(whole[main])} is ${feature(main)}, its own.`
              : "")
          : whole[main] > 0.5
            ? `Output ${b + 1} goes from noise to ${feature(main)}, which ${neuron(b)} learned itself.`
            : `Output ${b + 1} stays mostly noise.`;
    return out;
  }

  // What the network looks like at one moment.
  function moment({ run, output: b }, point) {
    const a = 1 - b,
      parts = wenLi.composition(run.constants, point, b);
    const list = parts.features
      .flatMap((part, l) => [
        part.fed > 0.01
          ? `${percent(part.fed)} ${featureName(run.problem, l)} through the head`
          : "",
        part.own > 0.01 ? `${percent(part.own)} ${featureName(run.problem, l)} of its own` : "",
      ])
      .filter(Boolean);
    if (parts.noise > 0.01) list.push(`${percent(parts.noise)} noise`);
    const head = run.problem.head
      ? `${entry(b, a)} = ${words(Math.abs(point.head[b][a]), 2)}. `
      : "";
    return `${head}Output ${b + 1} is ${list.join(", ")}.`;
  }

  // Wilson's 95 % interval of a share.
  function interval(hits, count) {
    const z = 1.96,
      p = hits / count,
      middle = (p + (z * z) / (2 * count)) / (1 + (z * z) / count);
    const half =
      (z * Math.sqrt((p * (1 - p)) / count + (z * z) / (4 * count * count))) /
      (1 + (z * z) / count);
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  // What came of many starts so far.
  function ensemble(outcomes, count) {
    const told = outcomes.filter(Boolean),
      hits = told.filter((one) => one === "diverse").length;
    if (told.length === 0) return "Computing …";
    const [low, high] = interval(hits, told.length);
    const range =
      told.length < count
        ? `${told.length} of ${count} computed`
        : `95\u00a0% interval ${Math.round(100 * low)} to ${Math.round(100 * high)}\u00a0%`;
    return `${hits} of ${told.length} starts learn both features (${range}).`;
  }

  return {
    MARKS,
    OUTCOME,
    featureName,
    entry,
    neuron,
    solve,
    phases,
    captions,
    moment,
    ensemble,
    interval,
    percent,
  };
})();
