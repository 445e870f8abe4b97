"use strict";
// Implicit variance regularisation (Halvagal, Laborieux and Zenke 2023): eigenvalues l of W W^T
// under DirectPred, p = l^power, for the Euclidean loss and for IsoLoss:
//   Euclidean  l' = 2 l p (1 - (1 + v) p)         IsoLoss  l' = 2 l (1 - (1 + v) p)
//   no predictor (p = 1)  l' = -2 v l             no stop-gradient  l' = 2 l (2 p - (1 + v)(1 + p^2))
const isoLoss = (() => {
  const MODES = [1e-1, 1e-2, 1e-3, 1e-4];
  const FIRST = 0.1,
    LAST = 1000;
  const TARGET = 0.5;

  const settings = [
    { key: "v", label: "noise variance σ²", low: 0, high: 2, step: 0.05, value: 0 },
    {
      key: "power",
      label: "power of the predictor, p = λᵅ",
      low: 0.1,
      high: 1,
      step: 0.05,
      value: 0.5,
    },
    { key: "predictor", label: "predictor", kind: "switch", value: true },
    { key: "stop", label: "stop-gradient", kind: "switch", value: true },
  ];

  const velocity =
    ({ v, power, predictor, stop }) =>
    (_, y) =>
      Float64Array.from(y, (value, i) => {
        const size = Math.max(value, 0),
          p = predictor ? size ** power : 1;
        const euclidean = i < MODES.length;
        if (euclidean && !stop) return 2 * size * (2 * p - (1 + v) * (1 + p * p));
        return 2 * size * (euclidean ? p : 1) * (1 - (1 + v) * p);
      });

  function solve(parameters) {
    const logs = dormandPrince.even(Math.log(FIRST), Math.log(LAST), 240);
    const time = [0, ...logs.map(Math.exp)];
    const states = dormandPrince.solve(velocity(parameters), [...MODES, ...MODES], time);
    return { time, states, parameters };
  }

  // When mode i passes one half, linear between the samples; Infinity if never.
  function reached({ time, states }, i) {
    const at = states.findIndex((y) => y[i] > TARGET);
    if (at < 1) return at < 0 ? Infinity : 0;
    const low = states[at - 1][i],
      high = states[at][i];
    return time[at - 1] + ((TARGET - low) / (high - low)) * (time[at] - time[at - 1]);
  }

  function charts({ time, states }) {
    const chart = (title, first) => ({
      title,
      x: { label: "time", domain: [FIRST, LAST], log: true },
      y: { label: "eigenvalue λ", domain: [0, 1.1] },
      rules: [{ axis: "y", at: TARGET, label: "one half" }],
      lines: MODES.map((l, i) => ({
        name: `from ${l}`,
        colour: i,
        points: time.slice(1).map((t, at) => [t, states[at + 1][first + i]]),
      })),
    });
    return [chart("Euclidean loss", 0), chart("IsoLoss", MODES.length)];
  }

  function sentence(solution) {
    const { predictor, stop, v } = solution.parameters;
    if (!predictor) {
      return v > 0
        ? "Without a predictor nothing pushes back against the noise: every eigenvalue shrinks at the same rate, to zero."
        : "Without a predictor and without noise nothing moves: any representation is as good as any other.";
    }
    const slow = reached(solution, MODES.length - 1),
      fast = reached(solution, 2 * MODES.length - 1);
    const quick = reached(solution, 0),
      quickIso = reached(solution, MODES.length);
    if (!stop) {
      return (
        "Without the stop-gradient the Euclidean loss collapses: every eigenvalue shrinks to zero. " +
        "IsoLoss on the right keeps its stop-gradient."
      );
    }
    if (![slow, fast, quick, quickIso].every(Number.isFinite)) {
      return "All eigenvalues are pulled to one common value, here below one half: the noise decides which.";
    }
    return (
      `All eigenvalues are pulled to one common value. The smallest one needs ${text(slow / quick)} times as long ` +
      `as the largest under the Euclidean loss, and ${text(fast / quickIso)} times under IsoLoss, which removes the predictor's ` +
      "eigenvalue from the learning rate."
    );
  }

  const text = (x) => String(Number(x.toPrecision(2)));

  return {
    key: "iso",
    title: "IsoLoss: equal variances",
    paper: "Halvagal, Laborieux and Zenke 2023",
    question: "Why are weak directions learned so slowly, and how can all be learned at one speed?",
    equation: "Euclidean: λ′ = 2 λ p (1 − (1+σ²) p).  IsoLoss: λ′ = 2 λ (1 − (1+σ²) p)",
    settings,
    solve,
    charts,
    sentence,
    reached,
    velocity,
    MODES,
  };
})();
