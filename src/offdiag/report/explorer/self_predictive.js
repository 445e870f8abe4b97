"use strict";
// Self-predictive learning (Tang et al. 2022): features F (states x 3) of a walk with
// transition matrix T, and a predictor P of learning rate ratio rho, both with weight decay:
//   F' = R P^T - eta F,   P' = rho F^T R - eta P,   R = T F - F P
// Without the stop-gradient F' has the further term -T^T R. With eta = 0 the matrix
// F^T F - P P^T / rho is conserved, so that features do not collapse.
const selfPredictive = (() => {
  const STATES = 8,
    FEATURES = 3,
    LONGEST = 400;

  // A lazy walk along a corridor: stay with probability 1/2, else left or right; a wall returns.
  const T = Array.from({ length: STATES }, (_, x) =>
    Array.from({ length: STATES }, (_, y) => {
      const wall = (x === 0 || x === STATES - 1) && x === y ? 0.25 : 0;
      return (x === y ? 0.5 : Math.abs(x - y) === 1 ? 0.25 : 0) + wall;
    }),
  );
  // Its eigenvectors are cosines, from the slowest on.
  const eigenvectors = Array.from({ length: STATES }, (_, i) => {
    const v = Array.from({ length: STATES }, (_, x) =>
      Math.cos((Math.PI * i * (x + 0.5)) / STATES),
    );
    const norm = Math.hypot(...v);
    return v.map((value) => value / norm);
  });

  const settings = [
    {
      key: "rho",
      label: "learning rate of the predictor, ratio ρ",
      low: 0.01,
      high: 20,
      step: 0.05,
      value: 10,
      log: true,
    },
    { key: "eta", label: "weight decay η", low: 0, high: 0.4, step: 0.005, value: 0 },
    { key: "stop", label: "stop-gradient", kind: "switch", value: true },
    { key: "seed", label: "seed", kind: "whole", low: 0, high: 99, value: 2 },
  ];

  const at = (y, x, f) => y[x * FEATURES + f];
  const P_OFFSET = STATES * FEATURES;

  const velocity =
    ({ rho, eta, stop }) =>
    (_, y) => {
      const out = new Float64Array(y.length),
        R = [];
      for (let x = 0; x < STATES; x++) {
        for (let f = 0; f < FEATURES; f++) {
          let r = 0;
          for (let z = Math.max(0, x - 1); z < Math.min(STATES, x + 2); z++)
            r += T[x][z] * at(y, z, f);
          for (let g = 0; g < FEATURES; g++) r -= at(y, x, g) * y[P_OFFSET + g * FEATURES + f];
          R.push(r);
        }
      }
      for (let x = 0; x < STATES; x++) {
        for (let f = 0; f < FEATURES; f++) {
          let moved = -eta * at(y, x, f);
          for (let g = 0; g < FEATURES; g++) moved += at(R, x, g) * y[P_OFFSET + f * FEATURES + g];
          if (!stop) {
            for (let z = Math.max(0, x - 1); z < Math.min(STATES, x + 2); z++)
              moved -= T[z][x] * at(R, z, f);
          }
          out[x * FEATURES + f] = moved;
        }
      }
      for (let f = 0; f < FEATURES; f++) {
        for (let g = 0; g < FEATURES; g++) {
          let moved = 0;
          for (let x = 0; x < STATES; x++) moved += at(y, x, f) * at(R, x, g);
          out[P_OFFSET + f * FEATURES + g] = rho * moved - eta * y[P_OFFSET + f * FEATURES + g];
        }
      }
      return out;
    };

  // Orthonormal random features, and a predictor that starts at a tenth of the identity.
  function start({ seed }) {
    const next = random.generator(seed, 0),
      columns = [];
    for (let f = 0; f < FEATURES; f++) {
      const v = Array.from({ length: STATES }, () => random.normal(next));
      for (const other of columns) {
        const dot = v.reduce((sum, value, x) => sum + value * other[x], 0);
        v.forEach((value, x) => (v[x] = value - dot * other[x]));
      }
      const norm = Math.hypot(...v);
      columns.push(v.map((value) => value / norm));
    }
    const y = new Float64Array(P_OFFSET + FEATURES * FEATURES);
    columns.forEach((v, f) => v.forEach((value, x) => (y[x * FEATURES + f] = value)));
    for (let f = 0; f < FEATURES; f++) y[P_OFFSET + f * (FEATURES + 1)] = 0.1;
    return y;
  }

  function gram(y) {
    return Array.from({ length: FEATURES }, (_, f) =>
      Array.from({ length: FEATURES }, (_, g) => {
        let dot = 0;
        for (let x = 0; x < STATES; x++) dot += at(y, x, f) * at(y, x, g);
        return dot;
      }),
    );
  }

  // Eigenvalues and eigenvectors (columns) of a small symmetric matrix, by Jacobi's rotations.
  function eigh(matrix) {
    const n = matrix.length,
      a = matrix.map((row) => [...row]);
    const v = matrix.map((_, i) => matrix.map((_, j) => (i === j ? 1 : 0)));
    for (let sweep = 0; sweep < 30; sweep++) {
      for (let p = 0; p < n; p++) {
        for (let q = p + 1; q < n; q++) {
          if (Math.abs(a[p][q]) < 1e-300) continue;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1),
            s = t * c;
          for (let i = 0; i < n; i++)
            [a[i][p], a[i][q]] = [c * a[i][p] - s * a[i][q], s * a[i][p] + c * a[i][q]];
          for (let i = 0; i < n; i++)
            [a[p][i], a[q][i]] = [c * a[p][i] - s * a[q][i], s * a[p][i] + c * a[q][i]];
          for (let i = 0; i < n; i++)
            [v[i][p], v[i][q]] = [c * v[i][p] - s * v[i][q], s * v[i][p] + c * v[i][q]];
        }
      }
    }
    return { values: a.map((row, i) => row[i]), vectors: v };
  }

  // Singular values of the features, largest first, and for each eigenvector of the walk the
  // share of it that lies in the span of the features, in [0, 1].
  function readings(y) {
    const { values, vectors } = eigh(gram(y)),
      largest = Math.max(...values);
    const kept = eigenvectors.map((target) =>
      values.reduce((sum, value, i) => {
        if (value <= 1e-12 * largest || value <= 1e-12) return sum;
        let dot = 0;
        for (let x = 0; x < STATES; x++) {
          for (let f = 0; f < FEATURES; f++) dot += target[x] * at(y, x, f) * vectors[f][i];
        }
        return sum + (dot * dot) / value;
      }, 0),
    );
    return { singular: values.map((x) => Math.sqrt(Math.max(x, 0))).sort((a, b) => b - a), kept };
  }

  function solve(parameters) {
    const logs = dormandPrince.even(Math.log(0.1), Math.log(LONGEST), 160);
    const time = [0, ...logs.map(Math.exp)];
    const states = dormandPrince.solve(velocity(parameters), start(parameters), time, 1e-8);
    return { time, states, parameters, readings: states.map(readings) };
  }

  function charts({ time, readings: all }) {
    const x = { label: "time", domain: [0.1, LONGEST], log: true };
    const over = (value) => time.slice(1, all.length).map((t, i) => [t, value(all[i + 1])]);
    const top = 1.1 * Math.max(1, ...all.map((one) => one.singular[0]));
    return [
      {
        title: "How large the features are",
        x,
        y: { label: "singular values of the features", domain: [0, top] },
        lines: [0, 1, 2].map((i) => ({
          name: ["largest", "second", "smallest"][i],
          colour: i,
          points: over((one) => one.singular[i]),
        })),
      },
      {
        title: "What the features know of the corridor",
        x,
        y: { label: "share of each eigenvector kept", domain: [0, 1.05] },
        lines: eigenvectors.map((_, i) => ({
          name: i < FEATURES ? ["slowest", "second", "third"][i] : "faster",
          colour: i < FEATURES ? i : 5,
          strong: i < FEATURES,
          points: over((one) => one.kept[i]),
        })),
        legend: [
          { name: "slowest eigenvector", colour: 0 },
          { name: "second", colour: 1 },
          { name: "third", colour: 2 },
          { name: "the five faster ones", colour: 5 },
        ],
      },
    ];
  }

  function sentence({ readings: all, parameters }) {
    const { singular, kept } = all.at(-1),
      { eta, stop, rho } = parameters;
    const alive = singular.filter((s) => s > 0.05).length;
    const slow = Math.round((100 * kept.slice(0, FEATURES).reduce((a, b) => a + b)) / FEATURES);
    if (alive < FEATURES) {
      const why = stop
        ? `The weight decay ${text(eta)} takes more than prediction gives back.`
        : "Without the stop-gradient the target moves towards the prediction, and nothing holds the features up.";
      return `The features collapse: ${alive} of three directions ${alive === 1 ? "is" : "are"} left. ${why}`;
    }
    if (!stop) {
      return (
        `Without the stop-gradient the target moves towards the prediction: the features shrink, the smallest to ` +
        `${text(singular[2])}, and only ${slow} % of the three slowest eigenvectors are in their span.`
      );
    }
    const law =
      eta === 0
        ? `FᵀF − PPᵀ/ρ never changes, so no direction can vanish, however slow the predictor is (here ρ = ${text(rho)}).`
        : "";
    return (
      `All three directions stay alive, and ${slow} % of the three slowest eigenvectors of the walk ` +
      `are in their span: what changes slowly along the corridor can be predicted. ${law}`
    );
  }

  const text = (x) => String(Number(x.toPrecision(3)));

  return {
    key: "self",
    title: "Self-predictive learning",
    paper: "Tang et al. 2022",
    question: "Why do features that predict themselves not collapse?",
    equation: "F′ = R Pᵀ − η F,  P′ = ρ Fᵀ R − η P,  R = T F − F P",
    settings,
    solve,
    charts,
    sentence,
    start,
    velocity,
    readings,
    gram,
    eigh,
    T,
    STATES,
    FEATURES,
  };
})();
