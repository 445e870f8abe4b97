"use strict";
// Linear BYOL (Tian, Chen and Ganguli 2021): the eigenmodes of predictor and features, with a
// symmetric predictor, white data and a target tau times the online network:
//   p' = alpha s (tau - (1 + v) p) - eta p,   s' = 2 p s (tau - (1 + v) p) - 2 eta s
// p and s are eigenvalues of the predictor and of W W^T; v is the variance of augmentation.
const linearByol = (() => {
  const MODES = [0.05, 0.1, 0.15, 0.3]; // p at the start; s starts at p^2 / alpha
  const LONGEST = 80;

  const settings = [
    { key: "eta", label: "weight decay η", low: 0, high: 0.4, step: 0.005, value: 0.1 },
    { key: "v", label: "augmentation variance σ²", low: 0, high: 3, step: 0.05, value: 0 },
    { key: "tau", label: "target over online, τ", low: 0.1, high: 1, step: 0.05, value: 1 },
    {
      key: "alpha",
      label: "learning rate of the predictor α",
      low: 0.1,
      high: 10,
      step: 0.05,
      value: 1,
      log: true,
    },
    {
      key: "scale",
      label: "size of the start",
      low: 0.1,
      high: 5,
      step: 0.05,
      value: 1,
      log: true,
    },
  ];

  const velocity =
    ({ eta, v, tau, alpha }) =>
    (_, y) => {
      const out = new Float64Array(y.length);
      for (let i = 0; i < y.length; i += 2) {
        const p = y[i],
          s = y[i + 1],
          pull = tau - (1 + v) * p;
        out[i] = alpha * s * pull - eta * p;
        out[i + 1] = 2 * p * s * pull - 2 * eta * s;
      }
      return out;
    };

  // The fixed points p_- and p_+ on s = p^2 / alpha; null where weight decay leaves only 0.
  function edges({ eta, v, tau }) {
    const inside = tau ** 2 - 4 * eta * (1 + v);
    if (inside < 0) return null;
    const root = Math.sqrt(inside),
      twice = 2 * (1 + v);
    return [(tau - root) / twice, (tau + root) / twice];
  }

  const start = ({ scale, alpha }) => MODES.flatMap((p) => [p * scale, (p * scale) ** 2 / alpha]);

  function solve(parameters) {
    const time = dormandPrince.even(0, LONGEST, 241);
    const states = dormandPrince.solve(velocity(parameters), start(parameters), time);
    return { time, states, parameters };
  }

  function charts({ time, states, parameters }) {
    const edge = edges(parameters),
      rules = [];
    if (edge) {
      rules.push({ axis: "y", at: edge[0], label: "basin edge p₋" });
      rules.push({ axis: "y", at: edge[1], label: "stable point p₊" });
    }
    const name = (i) => `mode ${i + 1}`;
    const largest = (offset) =>
      Math.max(...states.map((y) => Math.max(...y.filter((_, i) => i % 2 === offset))));
    const pTop = 1.08 * Math.max(largest(0), edge ? edge[1] : 0),
      sTop = 1.08 * largest(1);
    const move = velocity(parameters),
      field = [];
    for (let a = 0; a < 14; a++) {
      for (let b = 0; b < 10; b++) {
        const p = ((a + 0.5) / 14) * pTop,
          s = ((b + 0.5) / 10) * sTop,
          [dp, ds] = move(0, [p, s]);
        field.push([p, s, dp / pTop, ds / sTop]);
      }
    }
    return [
      {
        title: "Eigenvalues of the predictor",
        x: { label: "time", domain: [0, LONGEST] },
        y: { label: "p", domain: [0, pTop] },
        rules,
        lines: MODES.map((_, i) => ({
          name: name(i),
          colour: i,
          points: time.map((t, at) => [t, states[at][2 * i]]),
        })),
      },
      {
        title: "Predictor and features together",
        x: { label: "p, predictor", domain: [0, pTop] },
        y: { label: "s, features", domain: [0, sTop] },
        field,
        rules: edge ? [{ axis: "x", at: edge[0], label: "p₋" }] : [],
        lines: MODES.map((_, i) => ({
          name: name(i),
          colour: i,
          end: true,
          points: states.map((y) => [y[2 * i], y[2 * i + 1]]),
        })),
      },
    ];
  }

  function sentence({ states, parameters }) {
    const { eta, v, tau } = parameters,
      limit = tau ** 2 / (4 * (1 + v)),
      edge = edges(parameters);
    const alive = MODES.filter(
      (_, i) => states.at(-1)[2 * i] > 0.5 * (edge ? edge[1] : Infinity),
    ).length;
    if (!edge) {
      return (
        `All four modes decay to zero. The weight decay ${text(eta)} is above τ² / (4 (1 + σ²)) = ${text(limit)}, ` +
        "and no size of the start can prevent this collapse."
      );
    }
    return (
      `${count(alive)} of four modes ${alive === 1 ? "survives" : "survive"}. A mode that starts above the basin edge ` +
      `p₋ = ${text(edge[0])} grows to p₊ = ${text(edge[1])}; one below it is forgotten. ` +
      `A weight decay above ${text(limit)} would end all of them.`
    );
  }

  const text = (x) => String(Number(x.toPrecision(3)));
  const count = (n) => ["None", "One", "Two", "Three", "All"][n];

  return {
    key: "byol",
    title: "Linear BYOL",
    paper: "Tian, Chen and Ganguli 2021",
    question: "Why does weight decay decide which directions BYOL keeps?",
    equation: "p′ = α s (τ − (1+σ²) p) − η p,  s′ = 2 p s (τ − (1+σ²) p) − 2 η s",
    settings,
    solve,
    charts,
    sentence,
    edges,
    start,
    velocity,
    MODES,
  };
})();
