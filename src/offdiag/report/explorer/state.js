"use strict";
// All that a reader can set, as one table, and the table as the hash of the address. An entry
// of a hash that is unknown, malformed or out of range leaves the default in place.
const state = (() => {
  const DYNAMICS = [linearByol, isoLoss, directSet, selfPredictive];

  const TABLE = [
    {
      key: "d",
      group: "data",
      label: "dimension d",
      kind: "whole",
      low: 10,
      high: 1e6,
      log: true,
      step: 0.02,
      value: 1000,
    },
    {
      key: "strong",
      group: "data",
      label: "strong feature α₁",
      low: 1,
      high: 8,
      step: 0.1,
      value: 4,
    },
    {
      key: "share",
      group: "data",
      label: "weak over strong α₂/α₁",
      low: 0.25,
      high: 1,
      step: 0.01,
      value: 0.5,
    },
    {
      key: "masks",
      group: "data",
      label: "masks",
      kind: "choice",
      choices: { half: "a random half", independent: "each patch by a coin" },
      value: "half",
    },
    { key: "head", group: "network", label: "prediction head", kind: "switch", value: true },
    {
      key: "rho",
      group: "network",
      label: "head learning rate ρ",
      low: 1e-4,
      high: 1,
      log: true,
      step: 0.02,
      value: 0.01,
    },
    { key: "bn", group: "network", label: "output normaliser", kind: "switch", value: true },
    { key: "stop", group: "network", label: "stop-gradient", kind: "switch", value: true },
    {
      key: "power",
      group: "network",
      label: "activation",
      kind: "choice",
      choices: { 3: "x³", 5: "x⁵" },
      value: "3",
    },
    { key: "seed", group: "start", label: "seed", kind: "whole", low: 0, high: 999, value: 0 },
    { key: "start", group: "start", label: "start", kind: "whole", low: 0, high: 199, value: 13 },
    {
      key: "run",
      group: "start",
      label: "run time, × default",
      low: 0.001,
      high: 1000,
      log: true,
      step: 0.1,
      value: 1,
    },
    {
      key: "tab",
      kind: "choice",
      choices: { theorem: "One start", diagram: "Phase diagram", theories: "Other theories" },
      value: "theorem",
    },
    {
      key: "axis",
      kind: "choice",
      label: "axis",
      choices: { time: "time, log", events: "events" },
      value: "time",
    },
    {
      key: "theme",
      kind: "choice",
      choices: { auto: "automatic", light: "light", dark: "dark" },
      value: "auto",
    },
    {
      key: "show",
      kind: "choice",
      label: "show",
      choices: {
        diverse: "both features learned",
        collapsed_strong: "collapsed on the strong feature",
        unlearned: "a neuron unlearned",
      },
      value: "diverse",
    },
    {
      key: "theory",
      kind: "choice",
      label: "theory",
      choices: Object.fromEntries(DYNAMICS.map((one) => [one.key, one.title])),
      value: DYNAMICS[0].key,
    },
    ...DYNAMICS.flatMap((one) =>
      one.settings.map((row) => ({ ...row, key: `${one.key}.${row.key}`, group: one.key })),
    ),
  ];
  const ROWS = new Map(TABLE.map((row) => [row.key, row]));
  const NUMBER = /^-?\d{1,9}(\.\d{1,17})?(e-?\d{1,2})?$/;

  const defaults = () => Object.fromEntries(TABLE.map((row) => [row.key, row.value]));

  // The value that a text stands for; undefined if it stands for none of this row.
  function read(row, words) {
    if (row.kind === "switch") return { on: true, off: false }[words];
    if (row.kind === "choice") return Object.hasOwn(row.choices, words) ? words : undefined;
    if (!NUMBER.test(words)) return undefined;
    const value = Number(words);
    if (value < row.low || value > row.high) return undefined;
    return row.kind === "whole" && !Number.isInteger(value) ? undefined : value;
  }

  function parse(hash) {
    const values = defaults();
    for (const part of hash.replace(/^#/, "").split("&").slice(0, 200)) {
      const [key, words] = part.split("=", 2),
        row = ROWS.get(key);
      const value = row && words !== undefined ? read(row, words) : undefined;
      if (value !== undefined) values[key] = value;
    }
    return values;
  }

  const write = (row, value) => (row.kind === "switch" ? (value ? "on" : "off") : String(value));

  // Only what differs from the default, in the order of the table.
  function serialise(values) {
    const parts = TABLE.filter((row) => values[row.key] !== row.value).map(
      (row) => `${row.key}=${write(row, values[row.key])}`,
    );
    return parts.length ? `#${parts.join("&")}` : "";
  }

  // Sliders run over the value, or over its logarithm; three digits are kept.
  const toSlider = (row, value) => (row.log ? Math.log10(value) : value);
  function fromSlider(row, position) {
    const value = row.log ? 10 ** position : position;
    const rounded =
      row.kind === "whole" && value < 1000 ? Math.round(value) : Number(value.toPrecision(3));
    return Math.min(row.high, Math.max(row.low, rounded));
  }

  // The problem of Wen and Li that the values describe.
  const problem = (values) => ({
    ...wenLi.defaults,
    dim: values.d,
    strengths: [values.strong, Number((values.strong * values.share).toPrecision(6))],
    masks: values.masks,
    power: Number(values.power),
    normaliser: values.bn,
    stopGradient: values.stop,
    head: values.head,
    rho: values.rho,
  });

  const parameters = (values, dynamics) =>
    Object.fromEntries(
      dynamics.settings.map((row) => [row.key, values[`${dynamics.key}.${row.key}`]]),
    );

  return {
    DYNAMICS,
    TABLE,
    ROWS,
    defaults,
    parse,
    serialise,
    toSlider,
    fromSlider,
    problem,
    parameters,
  };
})();
