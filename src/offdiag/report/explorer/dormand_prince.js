"use strict";
// Dormand and Prince's explicit Runge-Kutta pair of orders 5 and 4, for the dynamics that are
// not stiff. Steps end exactly at the times asked for.
const dormandPrince = (() => {
  const C = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1];
  const A = [
    [],
    [1 / 5],
    [3 / 40, 9 / 40],
    [44 / 45, -56 / 15, 32 / 9],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
  ];
  const ERROR = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40];
  const MAX_STEPS = 200000;

  // The states of y' = velocity(time, y) at `times`, from `start` at times[0]. Stops early,
  // with fewer states, where a number is no longer finite or steps run out.
  function solve(velocity, start, times, rtol = 1e-9, atol = 1e-12) {
    const n = start.length,
      states = [Float64Array.from(start)];
    let y = Float64Array.from(start),
      t = times[0],
      slope = velocity(t, y),
      taken = 0;
    let h = 1e-3 * (times.at(-1) - times[0]);
    for (const goal of times.slice(1)) {
      while (t < goal) {
        if (taken++ > MAX_STEPS) return states;
        const last = t + h >= goal,
          step = last ? goal - t : h;
        const k = [slope];
        let end = y;
        for (let stage = 1; stage < 7; stage++) {
          end = Float64Array.from(y, (value, i) => {
            let sum = 0;
            for (let before = 0; before < stage; before++) sum += A[stage][before] * k[before][i];
            return value + step * sum;
          });
          k.push(velocity(t + C[stage] * step, end));
        }
        let error = 0;
        for (let i = 0; i < n; i++) {
          let wrong = 0;
          for (let stage = 0; stage < 7; stage++) wrong += ERROR[stage] * k[stage][i];
          error +=
            ((step * wrong) / (atol + rtol * Math.max(Math.abs(y[i]), Math.abs(end[i])))) ** 2;
        }
        error = Math.sqrt(error / n);
        if (error <= 1) {
          t = last ? goal : t + step;
          y = end;
          slope = k[6];
        } else if (!Number.isFinite(error) && step < 1e-12) {
          return states;
        }
        const factor = Number.isFinite(error)
          ? Math.min(5, Math.max(0.2, 0.9 * Math.max(error, 1e-10) ** -0.2))
          : 0.1;
        if (!last || error > 1 || step * factor < h) h = step * factor;
      }
      states.push(y);
    }
    return states;
  }

  const even = (low, high, count) =>
    Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

  return { solve, even };
})();
