"use strict";
// DirectSet(alpha) (Wang et al. 2021): one direction w of a linear encoder whose predictor is
// set to w^(2 alpha), with augmentation noise of variance v in that direction:
//   w' = w^(2 alpha) (1 - (1 + v) w^(2 alpha)) w - eta w
// A direction can be kept if and only if v <= 1 / (4 eta) - 1, for every alpha.
const directSet = (() => {
  const NOISE = [0, 0.5, 1, 1.5, 2, 2.5, 3, 4];
  const LONGEST = 300;

  const settings = [
    { key: "eta", label: "weight decay η", low: 0.02, high: 0.3, step: 0.005, value: 0.09 },
    {
      key: "alpha",
      label: "power α: ½ DirectPred, 1 DirectCopy",
      low: 0.25,
      high: 2,
      step: 0.05,
      value: 1,
    },
    { key: "start", label: "size of the start w(0)", low: 0.05, high: 1.5, step: 0.05, value: 0.8 },
  ];

  const velocity =
    ({ eta, alpha }) =>
    (_, y) =>
      Float64Array.from(y, (value, i) => {
        const w = Math.max(value, 0),
          p = w ** (2 * alpha);
        return p * (1 - (1 + NOISE[i]) * p) * w - eta * w;
      });

  const threshold = ({ eta }) => 1 / (4 * eta) - 1;

  // Where a direction of noise v comes to rest, and below which start it is forgotten.
  function roots({ eta, alpha }, v) {
    const inside = 1 - 4 * eta * (1 + v);
    if (inside < 0) return null;
    return [-1, 1].map(
      (sign) => ((1 + sign * Math.sqrt(inside)) / (2 * (1 + v))) ** (1 / (2 * alpha)),
    );
  }

  function solve(parameters) {
    const logs = dormandPrince.even(Math.log(0.1), Math.log(LONGEST), 200);
    const time = [0, ...logs.map(Math.exp)];
    const states = dormandPrince.solve(
      velocity(parameters),
      NOISE.map(() => parameters.start),
      time,
    );
    return { time, states, parameters };
  }

  function charts({ time, states, parameters }) {
    const edge = threshold(parameters),
      top = 1.1 * Math.max(...states.map((y) => Math.max(...y)));
    const curve = (which) =>
      dormandPrince
        .even(0, Math.min(edge, 4.4), 200)
        .map((v) => [v, roots(parameters, v)])
        .filter(([, pair]) => pair)
        .map(([v, pair]) => [v, pair[which]]);
    return [
      {
        title: "Directions over time",
        x: { label: "time", domain: [0.1, LONGEST], log: true },
        y: { label: "size of the direction w", domain: [0, top] },
        lines: NOISE.map((v, i) => ({
          name: `σ² = ${v}`,
          colour: v <= edge ? 0 : 4,
          strong: v <= edge,
          points: time.slice(1).map((t, at) => [t, states[at + 1][i]]),
        })),
        legend: [
          { name: "noise below the threshold", colour: 0 },
          { name: "above it", colour: 4 },
        ],
      },
      {
        title: "What is kept at the end",
        x: { label: "augmentation variance of the direction σ²", domain: [-0.2, 4.4] },
        y: { label: "size at the end", domain: [0, top] },
        rules: [{ axis: "x", at: edge, label: "1/(4η) − 1" }],
        lines:
          edge > 0
            ? [
                { name: "stable", colour: 5, points: curve(1) },
                { name: "smallest start that is kept", colour: 5, dash: true, points: curve(0) },
              ]
            : [],
        points: NOISE.map((v, i) => ({ x: v, y: states.at(-1)[i], colour: v <= edge ? 0 : 4 })),
      },
    ];
  }

  function sentence({ states, parameters }) {
    const edge = threshold(parameters),
      kept = states.at(-1).filter((w) => w > 0.05).length;
    const able = NOISE.filter((v) => v <= edge).length;
    const lost = able - kept;
    return (
      `${kept} of ${NOISE.length} directions are kept. Weight decay works as a filter: only directions whose augmentation ` +
      `variance is below 1/(4η) − 1 = ${text(edge)} can survive, whatever the power α.` +
      (lost > 0 ? ` ${lost} more could, but ${lost === 1 ? "starts" : "start"} too small.` : "")
    );
  }

  const text = (x) => String(Number(x.toPrecision(3)));

  return {
    key: "set",
    title: "DirectSet: a threshold",
    paper: "Wang, Chen, Du and Tian 2021",
    question: "Which directions does weight decay filter out?",
    equation: "w′ = w²ᵅ (1 − (1+σ²) w²ᵅ) w − η w",
    settings,
    solve,
    charts,
    sentence,
    threshold,
    roots,
    velocity,
    NOISE,
  };
})();
