"use strict";
// Seeded randomness: a stream of its own for every (seed, index), the same in every browser.
const random = (() => {
  // splitmix32: spreads neighbouring seeds far apart.
  const splitmix = (state) => () => {
    state = (state + 0x9e3779b9) | 0;
    let x = state ^ (state >>> 16);
    x = Math.imul(x, 0x21f0aaad);
    x ^= x >>> 15;
    x = Math.imul(x, 0x735a2d97);
    return (x ^ (x >>> 15)) >>> 0;
  };

  // sfc32 (Doty-Humphrey, PractRand): uniform on (0, 1), never 0.
  function generator(seed, index) {
    const mix = splitmix(seed),
      other = splitmix(mix() ^ Math.imul(index + 1, 0x85ebca6b));
    let a = mix(),
      b = other(),
      c = other(),
      counter = 1;
    const next = () => {
      const t = (a + b + counter++) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + t) | 0;
      return ((t >>> 0) + 0.5) / 4294967296;
    };
    for (let i = 0; i < 12; i++) next();
    return next;
  }

  // Standard normal, Box and Muller.
  const normal = (next) => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());

  // Chi-square with k > 1 degrees of freedom: twice a gamma of k / 2, Marsaglia and Tsang (2000).
  function chiSquare(next, k) {
    const d = k / 2 - 1 / 3,
      c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = normal(next),
        v = (1 + c * x) ** 3;
      if (v > 0 && Math.log(next()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return 2 * d * v;
    }
  }

  return { generator, normal, chiSquare };
})();
