"use strict";
// Many starts away from the page: an ensemble, or the cells of a phase diagram. A new request
// ends the one before. The page runs the same code itself where a browser has no workers.
const many = (() => {
  const CHUNK = 4;

  const one = (problem, seed, index, time) =>
    wenLi.outcome(wenLi.solve(problem, wenLi.start(problem, seed, index), time));

  // The outcomes of `count` starts with the head and without, a few at a time.
  function* ensemble({ problem, seed, count, time }) {
    const plain = { ...problem, head: false };
    for (let from = 0; from < count; from += CHUNK) {
      const indices = Array.from({ length: Math.min(CHUNK, count - from) }, (_, i) => from + i);
      yield {
        from,
        head: problem.head ? indices.map((index) => one(problem, seed, index, time)) : [],
        plain: indices.map((index) => one(plain, seed, index, time)),
      };
    }
  }

  // How many of `count` starts end in each way, cell by cell, in the order given.
  function* diagram({ problem, seed, count, cells, factor }) {
    for (const { cell, dim, rho } of cells) {
      const here = { ...problem, dim, rho, head: true },
        counts = {};
      const time = wenLi.horizon(here, factor);
      for (let index = 0; index < count; index++) {
        const outcome = one(here, seed, index, time);
        counts[outcome] = (counts[outcome] ?? 0) + 1;
      }
      yield { cell, counts };
    }
  }

  const JOBS = { ensemble, diagram };

  // Runs one request at a time, giving way after every piece so that a newer one is seen.
  function runner(answer) {
    let current = 0;
    return (request) => {
      const mine = ++current;
      if (request.job === "stop") return;
      const pieces = JOBS[request.job](request);
      const step = () => {
        if (mine !== current) return;
        const { value, done } = pieces.next();
        answer({ id: request.id, done, ...value });
        if (!done) setTimeout(step, 0);
      };
      setTimeout(step, 0);
    };
  }

  return { runner, one, ensemble };
})();

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  const run = many.runner((message) => self.postMessage(message));
  self.onmessage = (event) => run(event.data);
}
