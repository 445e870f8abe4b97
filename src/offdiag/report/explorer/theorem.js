"use strict";
// The first tab: one start as a story, and two hundred starts as dots.
const theorem = (() => {
  const COUNT = 200,
    SECONDS = 10,
    WAIT = 250,
    LEFT = 60;
  const AXES = {
    time: { label: "time: learning rate × steps" },
    events: { label: "events: steps of the integrator" },
  };
  const $ = (id) => document.getElementById(id);
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  let solved = null,
    key = "",
    look = "",
    moves = [],
    first = 0,
    narrated = -1;
  let progress = 0,
    playing = 0,
    outcomes = { head: [], plain: [] },
    ensembleKey = "",
    asked = 0;
  let updateDots = null,
    set = null,
    values = null,
    listed = [];

  const timeOf = (all) => wenLi.horizon(state.problem(all), all.run);

  function render(all, { settled }) {
    values = all;
    const problem = state.problem(all),
      time = timeOf(all);
    const fresh = JSON.stringify([problem, all.seed, all.start, time]);
    if (fresh !== key) {
      key = fresh;
      solved = story.solve(problem, wenLi.start(problem, all.seed, all.start), time);
      listed = story.phases(solved);
      look = "";
    }
    const width = [$("features").clientWidth, $("plane").clientWidth, all.axis].join();
    if (width !== look) {
      look = width;
      draw(all);
    }
    seek(progress);
    askForMany(all, problem, time, settled);
  }

  function left() {
    // where the picture starts: well before the first feature is learned
    const learned = solved.found.leader ? solved.found.leader.time : solved.run.time;
    return Math.max(solved.points[1].time, learned / 300);
  }

  function draw(all) {
    const { run, points, found, twin } = solved,
      k = run.constants,
      events = all.axis === "events";
    const from = left(),
      last = points.at(-1).time;
    first = Math.max(
      1,
      points.findIndex((point) => point.time >= from),
    );
    const at = (point) => (events ? point.event : point.time);
    const eventAt = (list, time) => {
      const i = list.findIndex((point) => point.time >= time);
      return i < 0 ? 1 : list[i].event;
    };
    const x = {
      label: AXES[all.axis].label,
      log: !events,
      domain: events ? [points[first].event, 1] : [from, last],
      bare: events,
    };
    const bands = listed
      .filter((phase) => phase.index < 4)
      .map((phase) => ({
        ...phase,
        from: events ? eventAt(points, phase.start) : Math.max(phase.start, from),
        // The identity lasts: its band runs to the end, not only to where it is reached.
        to: phase.index === 3 ? x.domain[1] : events ? eventAt(points, phase.end) : phase.end,
      }));
    const shown = points.slice(first - 1),
      over = (value) => shown.map((point) => [at(point), value(point)]);
    // The twin has steps of its own: on the axis of events it stands at this run's events.
    const ghostOf =
      twin && found.follower
        ? twin.points
            .filter((point) => point.time >= from)
            .map((point) => [
              events ? eventAt(points, point.time) : point.time,
              Math.abs(point.c[found.follower.neuron][found.follower.feature]),
            ])
        : [];
    const lines = k.signal.flatMap((_, l) =>
      [0, 1].map((j) => ({
        name: `neuron ${j + 1}, ${["strong", "weak"][l]} feature`,
        colour: l,
        dash: j === 1,
        points: over((point) => Math.abs(point.c[j][l])),
      })),
    );
    const ghost = { name: "without a head", colour: 5, ghost: true, points: ghostOf };
    const top =
      1.08 * Math.max(0.6, ...lines.flatMap((line) => line.points.map((point) => point[1])));
    const features = charts.draw(
      $("features"),
      {
        title: "Inner products of neurons and features over time",
        x,
        bands,
        y: { label: "feature learned |c|", domain: [0, top] },
        lines: ghostOf.length ? [ghost, ...lines] : lines,
      },
      { height: 210, left: LEFT },
    );
    charts.legend($("features-legend"), ghostOf.length ? [...lines, ghost] : lines);

    const entries = [
      [1, 0, 2],
      [0, 1, 3],
    ].map(([j, r, colour]) => ({
      name: `${story.entry(j, r)}: ${r + 1} into ${j + 1}`,
      colour,
      dash: j === 1,
      points: over((point) => Math.abs(point.head[j][r])),
    }));
    // What conservation lets the head reach, eq. 15: it holds under the normaliser only.
    const fed = solved.output,
      width = k.features + k.neurons;
    const size = Math.hypot(...run.states[0].subarray(fed * width, (fed + 1) * width));
    const bound = k.rho && k.normalised ? Math.sqrt(k.rho / k.power) * size : 0;
    const most = Math.max(...entries.flatMap((line) => line.points.map((point) => point[1])));
    const head = charts.draw(
      $("head"),
      {
        title: "Entries of the head over time",
        x,
        bands,
        y: { label: "head entry |E|", domain: [0, 1.2 * Math.max(most, bound, 1e-3)] },
        rules: bound
          ? [{ axis: "y", at: bound, label: `bound √(ρ/${k.power}) |w${"₁₂"[fed]}(0)|` }]
          : [],
        lines: entries,
      },
      { height: 160, left: LEFT },
    );
    charts.legend($("head-legend"), entries);

    const b = solved.output;
    const parts = shown.map((point, i) => ({ at: at(point), ...solved.made[first - 1 + i] }));
    const layers = [
      { name: "noise", colour: 5, value: (one) => one.noise },
      ...[0, 1].map((l) => ({
        name: `${["strong", "weak"][l]}, its own`,
        colour: l,
        value: (one) => one.features[l].own,
      })),
      ...[0, 1].map((l) => ({
        name: `${["strong", "weak"][l]}, through the head`,
        colour: l,
        hatched: true,
        value: (one) => one.features[l].fed,
      })),
    ];
    const base = parts.map(() => 0);
    const areas = layers.map((layer) => ({
      ...layer,
      points: parts.map((one, i) => [one.at, base[i], (base[i] += layer.value(one))]),
    }));
    const output = charts.draw(
      $("output"),
      {
        title: `What output ${b + 1} is made of over time`,
        x,
        bands,
        y: { label: "share of variance", domain: [0, 1] },
        areas,
      },
      { height: 170, left: LEFT },
    );
    $("head-figure").hidden = !run.problem.head;
    $("dots-head-figure").hidden = !run.problem.head;
    $("dots-plain-title").textContent = run.problem.head
      ? "the same starts without a head"
      : "without a head";
    $("rescue").hidden = !run.problem.head;
    $("output-title").textContent = `What output ${b + 1} is made of`;
    charts.legend(
      $("output-legend"),
      layers.map((layer) => ({ ...layer, fill: true })),
    );

    const arrows = pictures.plane($("plane"), solved),
      links = pictures.network($("network"), solved);
    moves = [
      (index, point) => [features, head, output].forEach((one) => one.move(at(point))),
      (index, point) => arrows(index, point.time),
      (index, point) => links(point),
    ];
    const captions = story.captions(solved);
    for (const [name, text] of Object.entries(captions)) $(`${name}-caption`).textContent = text;
    narrate();
  }

  function narrate() {
    $("phases").replaceChildren(
      ...listed.map((phase, i) => {
        const item = document.createElement("li"),
          button = document.createElement("button"),
          text = document.createElement("span");
        button.type = "button";
        button.className = `b${phase.index}`;
        button.append(phase.mark ? `${phase.mark} · ${phase.name}` : phase.name);
        button.addEventListener("click", () => {
          pause();
          seek(progressAt(Math.min(phase.end, solved.points.at(-1).time)));
        });
        text.textContent = phase.text;
        item.append(button, text);
        return item;
      }),
    );
    narrated = -1;
  }

  function progressAt(time) {
    const index = solved.points.findIndex((point) => point.time >= time);
    return charts.clamp(
      ((index < 0 ? solved.points.length - 1 : index) - first) / (solved.points.length - 1 - first),
      0,
      1,
    );
  }

  // Show the moment at `share` of the events, from 0 to 1.
  function seek(share) {
    progress = charts.clamp(share, 0, 1);
    const last = solved.points.length - 1,
      index = Math.round(first + progress * (last - first)),
      point = solved.points[index];
    moves.forEach((move) => move(index, point));
    $("cursor").value = String(Math.round(1000 * progress));
    $("clock").textContent = `time ${charts.words(point.time, 3)}`;
    $("cursor").setAttribute("aria-valuetext", $("clock").textContent);
    $("network-caption").textContent = story.moment(solved, point);
    const now = listed.findLastIndex((phase) => point.time >= phase.start);
    if (now !== narrated) {
      narrated = now;
      [...$("phases").children].forEach((item, i) => item.classList.toggle("now", i === now));
    }
  }

  function pause() {
    cancelAnimationFrame(playing);
    clearTimeout(playing);
    playing = 0;
    $("play").textContent = "▶ Play";
    $("play").setAttribute("aria-pressed", "false");
  }

  // Play the events at an even pace; with reduced motion, from phase to phase.
  function play() {
    if (playing) return pause();
    if (progress >= 1) seek(0);
    $("play").textContent = "❚❚ Pause";
    $("play").setAttribute("aria-pressed", "true");
    if (still.matches) {
      const hop = () => {
        const stops = [...listed.map((phase) => progressAt(phase.end)), 1],
          next = stops.find((stop) => stop > progress + 1e-6);
        if (next === undefined) return pause();
        seek(next);
        playing = setTimeout(hop, 1800);
      };
      return hop();
    }
    let before = null;
    const frame = (now) => {
      if (before !== null) seek(progress + (now - before) / (1000 * SECONDS));
      before = now;
      if (progress >= 1) pause();
      else playing = requestAnimationFrame(frame);
    };
    playing = requestAnimationFrame(frame);
  }

  let ask = null;

  // Ask for the ensemble once the sliders have come to rest; show what there is meanwhile.
  function askForMany(all, problem, time, settled) {
    const fresh = JSON.stringify([problem, all.seed, time]);
    if (fresh !== ensembleKey) {
      ensembleKey = fresh;
      outcomes = { head: Array(COUNT).fill(null), plain: Array(COUNT).fill(null) };
      ask({ job: "stop" });
      clearTimeout(asked);
      asked = setTimeout(
        () => ask({ job: "ensemble", id: fresh, problem, seed: all.seed, count: COUNT, time }),
        settled ? 0 : WAIT,
      );
    }
    showDots();
  }

  function answered({ id, done, from, head, plain }) {
    if (id !== ensembleKey) return;
    if (!done) {
      head.forEach((outcome, i) => (outcomes.head[from + i] = outcome));
      plain.forEach((outcome, i) => (outcomes.plain[from + i] = outcome));
    } else {
      document.documentElement.dataset.ensemble = "done";
    }
    if (document.visibilityState === "visible") showDots();
  }

  function showDots() {
    if (outcomes.plain[0] === null) delete document.documentElement.dataset.ensemble;
    for (const [name, list] of Object.entries(outcomes)) {
      const text =
        name === "head" && !values.head ? "There is no head." : story.ensemble(list, COUNT);
      updateDots[name](list, values.start, text);
      $(`dots-${name}-caption`).textContent = text;
      const counts = Object.keys(story.OUTCOME).map((outcome) => [
        outcome,
        list.filter((one) => one === outcome).length,
      ]);
      $(`dots-${name}-legend`).replaceChildren(
        ...counts
          .filter(([, count]) => count)
          .map(([outcome, count]) => {
            const item = document.createElement("span");
            item.append(
              charts.svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, [
                pictures.glyph(outcome, 7, 7, 5),
              ]),
              `${count} ${story.OUTCOME[outcome]}`,
            );
            return item;
          }),
      );
    }
    const both = outcomes.plain.filter(
      (one, i) => one && one !== "diverse" && outcomes.head[i] === "diverse",
    ).length;
    $("rescued").textContent =
      values.head && both ? `${both} of these starts learn both features only with the head.` : "";
    const chosen = outcomes.plain[values.start];
    $("shown").textContent =
      `Ring: the start shown, number ${values.start}.${chosen ? ` Without a head: ${story.OUTCOME[chosen]}.` : ""}`;
  }

  // The start in Python, to the last digit.
  function python() {
    const { problem, constants: k } = solved.run,
      m = k.neurons,
      f = k.features,
      width = m + f,
      y = solved.run.states[0];
    const rows = (offset, count) =>
      `[${Array.from({ length: m }, (_, j) => `[${Array.from(y.subarray(j * width + offset, j * width + offset + count)).join(", ")}]`).join(", ")}]`;
    return [
      "import numpy as np",
      "from offdiag.theory.flow import flow",
      "from offdiag.theory.problem import Problem",
      "from offdiag.theory.state import State",
      "",
      "problem = Problem(",
      `    dim=${problem.dim}, strengths=(${problem.strengths.map((a) => a.toFixed(6).replace(/0+$/, "0")).join(", ")}), masks="${problem.masks}",`,
      `    power=${problem.power}, normaliser="${problem.normaliser ? "bn" : "none"}", stop_gradient="${problem.stopGradient ? "target" : "none"}",`,
      `    head_lr_ratio=${k.rho},`,
      ")",
      "start = State(",
      `    inner_products=np.array(${rows(0, f)}),`,
      `    noise_parts=np.array(${rows(f, m)}),`,
      "    head=np.eye(2),",
      ")",
      `run = flow(problem, start, time=${solved.run.time})`,
      "print(run.inner_products[-1], run.head[-1])",
    ].join("\n");
  }

  // Look for a start that needs the head, from the one shown on.
  function findRescued() {
    for (let i = 1; i <= COUNT; i++) {
      const index = (values.start + i) % COUNT;
      if (
        outcomes.head[index] === "diverse" &&
        outcomes.plain[index] &&
        outcomes.plain[index] !== "diverse"
      ) {
        progress = 0;
        return set({ start: index });
      }
    }
    $("shown").textContent = "None of the starts computed so far needs the head here.";
  }

  function begin(change, background) {
    set = change;
    ask = background(answered);
    const choose = (index) => {
      progress = 0;
      set({ start: index });
    };
    updateDots = {
      head: pictures.dots($("dots-head"), COUNT, choose),
      plain: pictures.dots($("dots-plain"), COUNT, choose),
    };
    $("play").addEventListener("click", play);
    $("cursor").addEventListener("input", () => {
      pause();
      seek(Number($("cursor").value) / 1000);
    });
    $("rescue").addEventListener("click", findRescued);
    $("python").addEventListener(
      "toggle",
      () => ($("code").textContent = $("python").open ? python() : ""),
    );
  }

  return { begin, render, play, pause, still, read: () => solved, python };
})();
