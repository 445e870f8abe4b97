"use strict";
// Wen and Li (2022): a problem, its starts, how one ends and which phases it went through.
// Follows theory/problem.py, state.py, outcomes.py and phases.py; docs/theory.md has the
// equations. Two neurons and two features unless a problem brings more strengths.
const wenLi = (() => {
  const LEARNED = 0.1; // a neuron has learned a feature if |c| is above this at the end
  const VANISHED = 1e-3; // every output variance below this share of its start
  const IDENTITY = 0.01; // the head is back below this share of its peak
  const MOMENTS = { 3: [6, 9], 5: [120, 600, 225] };
  const ENOUGH = 30000; // median first times that a start gets
  const DRAWN = 2048; // starts that a median first time is taken over
  const LONGEST = 1e15; // beyond, double precision ends the flow
  const NAMES = ["strong feature", "substitution", "acceleration", "identity"];
  const OUTCOMES = [
    "diverse",
    "collapsed_strong",
    "collapsed_other",
    "unlearned",
    "vanished",
    "failed",
  ];
  const WHY = [
    "",
    "the velocity is not finite",
    "no step is small enough for the tolerance",
    "it took more steps than allowed",
  ];

  const defaults = {
    dim: 1000,
    strengths: [4, 2],
    patches: 16,
    featurePatches: 2,
    masks: "half",
    noise: 1,
    neurons: 2,
    power: 3,
    normaliser: true,
    stopGradient: true,
    head: true,
    rho: 0.01,
  };

  // What the kernels need of a problem; a problem without a head has rho = 0.
  function constants(problem) {
    const { patches: P, featurePatches: P_0, neurons: m, power, strengths } = problem;
    const V = problem.masks === "half" ? (P_0 * (P - P_0)) / (4 * (P - 1)) : P_0 / 4;
    const rho = problem.head ? problem.rho : 0;
    const rows = [],
      columns = [],
      head = new Float64Array(m * m);
    for (let j = 0; j < m; j++) {
      head[j * m + j] = 1;
      for (let r = 0; r < m; r++) {
        if (j !== r && rho > 0) {
          rows.push(j);
          columns.push(r);
        }
      }
    }
    return {
      neurons: m,
      features: strengths.length,
      power,
      signal: strengths.map((a) => a ** power),
      weights: strengths.map(() => 1 / strengths.length),
      same: P_0 ** 2 / 4 + V,
      cross: P_0 ** 2 / 4 - V,
      noisePatches: (P - P_0) / 2,
      noiseVariance: problem.noise ** 2,
      moments: MOMENTS[power],
      normalised: problem.normaliser,
      toOnline: 1,
      toTarget: problem.stopGradient ? 0 : 1,
      rho,
      head,
      rows,
      columns,
    };
  }

  // x^n of a whole n >= 0: much faster than ** and the same to rounding.
  function power(x, n) {
    let value = 1;
    for (let i = 0; i < n; i++) value *= x;
    return value;
  }

  // The draws that a median first time is taken over: always the same.
  const drawn = (() => {
    const next = random.generator(0, -1);
    return Array.from({ length: DRAWN }, () =>
      Array.from({ length: 4 }, () => Math.abs(random.normal(next))),
    );
  })();

  // The median over random starts of the time at which the first of two neurons learns the
  // first of two features, in closed form (docs/theory.md, eq. 19).
  function medianFirstTime(problem) {
    const k = constants(problem),
      q = k.power;
    const kappa = k.moments.reduce((a, b) => a + b);
    const pull = k.signal.map((signal, l) => k.weights[l] * signal ** 2);
    const quickest = drawn
      .map((x) => Math.max(...x.map((value, i) => pull[i % 2] * power(value * value, q - 1))))
      .sort((a, b) => a - b);
    const variance = k.noisePatches * kappa * k.noiseVariance ** q;
    return (variance * problem.dim ** (q - 1)) / (2 * q * (q - 1) * k.cross * quickest[DRAWN / 2]);
  }

  // The time to run to, as the Python lab takes it: so many median first times that nearly
  // every start has ended.
  const horizon = (problem, factor = 1) =>
    Math.min(LONGEST, ENOUGH * medianFirstTime(problem) * factor);

  // The neurons of a start, w_j ~ N(0, I / dim), row by row; the noise parts by Bartlett's decomposition. The same
  // draws serve every dim, so that a start moves smoothly when dim does.
  function start(problem, seed, index) {
    const m = problem.neurons,
      f = problem.strengths.length,
      d = problem.dim,
      width = f + m;
    const next = random.generator(seed, index),
      y = new Float64Array(m * width);
    const scale = 1 / Math.sqrt(d);
    for (let j = 0; j < m; j++) {
      for (let l = 0; l < f; l++) y[j * width + l] = random.normal(next) * scale;
      for (let a = 0; a < j; a++) y[j * width + f + a] = random.normal(next) * scale;
    }
    for (let j = 0; j < m; j++) {
      y[j * width + f + j] = Math.sqrt(random.chiSquare(next, d - f - j)) * scale;
    }
    return y;
  }

  // The flow from neurons as `start` draws them, with the identity as head.
  function solve(problem, neurons, time, rtol = 1e-6) {
    const k = constants(problem),
      y = new Float64Array(kernels.size(k));
    y.set(neurons);
    const run = kernels.flow(k, y, time, rtol);
    return { ...run, problem, constants: k, time };
  }

  // c_jl, |n_j|^2, R and E of one state.
  function unpack(k, z) {
    const m = k.neurons,
      f = k.features,
      width = f + m,
      c = [],
      covariance = [],
      head = [];
    for (let j = 0; j < m; j++) {
      const products = [],
        responses = [],
        entries = [];
      for (let l = 0; l < f; l++) products.push(z[j * width + l]);
      for (let s = 0; s < m; s++) {
        let dot = 0;
        for (let a = f; a < width; a++) dot += z[j * width + a] * z[s * width + a];
        responses.push(k.noiseVariance * dot);
        entries.push(k.head[j * m + s]);
      }
      c.push(products);
      covariance.push(responses);
      head.push(entries);
    }
    for (let e = 0; e < k.rows.length; e++) head[k.rows[e]][k.columns[e]] = z[m * width + e];
    return { c, covariance, head };
  }

  // Each neuron's output variance VG_j (eq. 4).
  function outputVariance(k, { c, covariance }) {
    const kappa = k.moments.reduce((a, b) => a + b);
    return c.map((row, j) => {
      const signal = row.reduce(
        (sum, x, l) => sum + k.weights[l] * (k.signal[l] * x ** k.power) ** 2,
        0,
      );
      return k.same * signal + k.noisePatches * kappa * covariance[j][j] ** k.power;
    });
  }

  // The feature of each neuron, by |c|; -1 if none is above LEARNED.
  const mainFeature = (c) =>
    c.map((row) => {
      const sizes = row.map(Math.abs),
        largest = Math.max(...sizes);
      return largest > LEARNED ? sizes.indexOf(largest) : -1;
    });

  function outcome(run) {
    const { problem, constants: k } = run,
      end = unpack(k, run.states.at(-1));
    if (run.status !== kernels.REACHED) return "failed";
    const first = outputVariance(k, unpack(k, run.states[0]));
    if (outputVariance(k, end).every((v, j) => v / first[j] < VANISHED)) return "vanished";
    const found = new Set(mainFeature(end.c)),
      most = Math.min(k.neurons, k.features);
    if (found.has(-1)) return "unlearned";
    if (found.size === 1 && most > 1) {
      const strong = problem.strengths.indexOf(Math.max(...problem.strengths));
      return found.has(strong) ? "collapsed_strong" : "collapsed_other";
    }
    return found.size >= most ? "diverse" : "partial";
  }

  // The trajectory at the integrator's own steps, or with `parts` samples of each step: time
  // and unpacked states. `event` runs 0 to 1 along the steps. Samples stay between the ends of
  // their step: where nothing moves steps are so long that interpolation would swing.
  function sample(run, parts) {
    const k = run.constants,
      n = run.states[0].length,
      out = [],
      scratch = new Float64Array(n);
    const count = run.states.length;
    for (let at = 0; at < count; at++) {
      for (let part = 0; part < (at + 1 < count ? parts : 1); part++) {
        let z = run.states[at];
        if (part) {
          z = scratch;
          for (let i = 0; i < n; i++) {
            const low = Math.min(run.states[at][i], run.states[at + 1][i]);
            const high = Math.max(run.states[at][i], run.states[at + 1][i]);
            z[i] = Math.min(high, Math.max(low, kernels.between(run, at, part / parts, i)));
          }
        }
        const point = unpack(k, z);
        point.time = at + part ? Math.max(0, Math.exp(z[n - 1]) - run.offset) : 0;
        point.event = (at + part / parts) / Math.max(1, count - 1);
        out.push(point);
      }
    }
    if (run.status === kernels.REACHED) out.at(-1).time = run.time;
    return out;
  }

  // What the samples of output j are made of, as shares of the variance of F_j: noise, and of
  // each feature what is the neuron's own and what comes through the head (share: eq. 16).
  function composition(k, point, j) {
    const h = (k.power - 1) / 2,
      E = point.head[j],
      R = point.covariance;
    let noise = 0;
    for (let r = 0; r < k.neurons; r++) {
      for (let s = 0; s < k.neurons; s++) {
        let value = 0; // eq. 3
        for (let i = 0; i <= h; i++)
          value += k.moments[i] * power(R[r][r] * R[s][s], i) * power(R[r][s], 2 * (h - i));
        noise += k.noisePatches * E[r] * E[s] * R[r][s] * value;
      }
    }
    const parts = k.signal.map((signal, l) => {
      const phi = point.c.map((row) => signal * power(row[l], k.power));
      const own = point.head[j][j] * phi[j];
      const fed = phi.reduce((sum, value, r) => sum + (r === j ? 0 : point.head[j][r] * value), 0);
      const total = Math.abs(own) + Math.abs(fed),
        variance = k.same * k.weights[l] * (own + fed) ** 2;
      const share = total > 0 ? Math.abs(fed) / total : 0;
      return { own: variance * (1 - share), fed: variance * share };
    });
    const whole = parts.reduce((sum, part) => sum + part.own + part.fed, noise);
    return {
      noise: noise / whole,
      features: parts.map(({ own, fed }) => ({ own: own / whole, fed: fed / whole })),
    };
  }

  const offDiagonalNorm = (head) =>
    Math.sqrt(head.flat().reduce((sum, e, i) => sum + (i % (head.length + 1) ? e * e : 0), 0));

  // Where |value| first passes `level`, linear in time between records; Infinity if never.
  function crossing(points, value, level) {
    const at = points.findIndex((point) => value(point) > level);
    if (at < 0) return Infinity;
    if (at === 0) return 0;
    const low = value(points[at - 1]),
      high = value(points[at]);
    const share = (level - low) / (high - low);
    return points[at - 1].time + share * (points[at].time - points[at - 1].time);
  }

  // log |c_jl| at a time, linear between records.
  function logAt(points, j, l, time) {
    const log = (point) => Math.log(Math.max(Math.abs(point.c[j][l]), 1e-300));
    const at = points.findIndex((point) => point.time >= time);
    if (at < 0) return log(points.at(-1));
    if (at === 0) return log(points[0]);
    const share = (time - points[at - 1].time) / (points[at].time - points[at - 1].time);
    return log(points[at - 1]) + share * (log(points[at]) - log(points[at - 1]));
  }

  const gained = (points, j, l, from, to) => logAt(points, j, l, to) - logAt(points, j, l, from);

  // Leader, follower and the phases that took place, as theory/phases.py finds them from the
  // records of the integrator. `points` come from `sample(run, 1)`.
  function phases(run, points) {
    const k = run.constants,
      m = k.neurons,
      learned = [];
    const end = points.at(-1),
      last = end.time;
    for (let j = 0; j < m; j++) {
      for (let l = 0; l < k.features; l++) {
        const time = crossing(points, (point) => Math.abs(point.c[j][l]), kernels.LEARNED);
        learned.push({ neuron: j, feature: l, time });
      }
    }
    const earliest = (list) =>
      list.reduce((best, one) => (one.time < best.time ? one : best), { time: Infinity });
    const leader = earliest(learned);
    const story = { leader: null, follower: null, learned, phases: [] };
    story.phases.push({
      name: NAMES[0],
      start: 0,
      end: Number.isFinite(leader.time) ? leader.time : last,
      complete: Number.isFinite(leader.time),
    });
    if (!Number.isFinite(leader.time)) return story;
    story.leader = leader;
    if (Math.min(m, k.features) < 2) return story;

    const a = leader.neuron,
      f = leader.feature;
    let follower = earliest(learned.filter((one) => one.neuron !== a && one.feature !== f));
    if (!Number.isFinite(follower.time)) {
      const most = (sizes) => sizes.indexOf(Math.max(...sizes));
      const fed = Array.from({ length: m }, (_, j) =>
        j === a ? -1 : Math.max(...points.map((point) => Math.abs(point.head[j][a]))),
      );
      const neuron = most(fed);
      const feature = most(end.c[neuron].map((x, l) => (l === f ? -1 : Math.abs(x))));
      follower = learned.find((one) => one.neuron === neuron && one.feature === feature);
    }
    story.follower = follower;

    const b = follower.neuron,
      g = follower.feature;
    const kappa = k.moments.reduce((x, y) => x + y);
    const ratio = (point) => {
      // eq. 17
      const phi = (j) => k.signal[f] * point.c[j][f] ** k.power;
      const own = k.same * phi(b) ** 2 + k.noisePatches * kappa * point.covariance[b][b] ** k.power;
      return own > 0 ? (k.same * (point.head[b][a] * phi(a)) ** 2) / own : Infinity;
    };
    story.peak = Math.max(...points.map((point) => Math.abs(point.head[b][a])));
    const at = points.findIndex((point) => point.time >= leader.time && ratio(point) > 1);
    if (at < 0) return story;
    const before = at > 0 ? ratio(points[at - 1]) : 1;
    let dominated = points[at].time;
    if (before < 1) {
      const share = (1 - before) / (ratio(points[at]) - before);
      dominated = points[at - 1].time + share * (points[at].time - points[at - 1].time);
    }
    dominated = Math.max(leader.time, dominated);
    const done = dominated < follower.time && Number.isFinite(follower.time);
    const until = done ? follower.time : last;
    story.phases.push(
      { name: NAMES[1], start: leader.time, end: dominated, complete: true },
      {
        name: NAMES[2],
        start: dominated,
        end: until,
        complete: done,
        own: gained(points, b, g, dominated, until),
        other: gained(points, b, f, dominated, until),
      },
    );
    if (done) {
      const norms = points.map((point) => offDiagonalNorm(point.head)),
        peak = Math.max(...norms);
      const back = points.findIndex(
        (point, i) => point.time >= follower.time && norms[i] < IDENTITY * peak,
      );
      story.phases.push({
        name: NAMES[3],
        start: follower.time,
        end: back < 0 ? last : points[back].time,
        complete: back >= 0,
      });
    }
    return story;
  }

  return {
    NAMES,
    OUTCOMES,
    WHY,
    defaults,
    constants,
    horizon,
    start,
    solve,
    unpack,
    outcome,
    outputVariance,
    sample,
    composition,
    phases,
    gained,
    mainFeature,
    offDiagonalNorm,
  };
})();
