"use strict";
// The second tab: where in the plane of dimension and head learning rate both features are
// learned. For the reference problem the picture comes with the page, computed by the Python
// lab; for any other it is computed here.
const diagram = (() => {
  const STARTS = 12;
  const $ = (id) => document.getElementById(id);
  const grid = JSON.parse($("grid").textContent),
    { dims, rhos } = grid;
  const KEYS = ["strong", "share", "masks", "bn", "stop", "power", "run"];
  let counts = [],
    key = "",
    drawn = "",
    update = null,
    ask = null,
    set = null,
    values = null;

  const cells = dims.flatMap((_, i) =>
    rhos.map((__, j) => ({ cell: j * dims.length + i, dim: dims[i], rho: rhos[j], i, j })),
  );
  // Coarse first: each pass halves the distance between the cells that are known.
  const level = ({ i, j }) => [8, 4, 2, 1].findIndex((step) => i % step === 0 && j % step === 0);
  cells.sort((a, b) => level(a) - level(b) || a.cell - b.cell);

  const nearest = (list, value) =>
    list.reduce(
      (best, one, i) =>
        Math.abs(Math.log(one / value)) < Math.abs(Math.log(list[best] / value)) ? i : best,
      0,
    );
  const selected = () => nearest(rhos, values.rho) * dims.length + nearest(dims, values.d);
  const reference = (all) => KEYS.every((name) => all[name] === state.ROWS.get(name).value);

  function render(all) {
    values = all;
    const problem = { ...state.problem(all), dim: 0, rho: 0, head: true };
    const fresh = JSON.stringify([problem, all.run, reference(all) || all.seed]);
    if (fresh !== key) {
      key = fresh;
      ask({ job: "stop" });
      if (reference(all)) {
        counts = cells.map(() => ({}));
        for (const [outcome, list] of Object.entries(grid.counts))
          list.forEach((count, cell) => (counts[cell][outcome] = count));
      } else {
        counts = cells.map(() => null);
        ask({
          job: "diagram",
          id: fresh,
          problem: state.problem(all),
          seed: all.seed,
          count: STARTS,
          factor: all.run,
          cells: cells.map(({ cell, dim, rho }) => ({ cell, dim, rho })),
        });
      }
    }
    if (drawn !== String($("diagram").clientWidth)) {
      drawn = String($("diagram").clientWidth);
      update = pictures.diagram($("diagram"), grid, (cell) => open(cell));
    }
    show();
  }

  const open = (cell) =>
    set({
      d: dims[cell % dims.length],
      rho: rhos[Math.floor(cell / dims.length)],
      head: true,
      tab: "theorem",
    });

  function show() {
    const shares = counts.map((one) =>
        one === null ? null : (one[values.show] ?? 0) / total(one),
      ),
      at = selected();
    update(shares, at);
    const here = counts[at],
      known = counts.filter((one) => one !== null).length;
    const place = `At d = ${charts.words(dims[at % dims.length], 3)} and ρ = ${charts.words(rhos[Math.floor(at / dims.length)], 2)}`;
    $("diagram-caption").textContent =
      here === null
        ? `${place}: computing …`
        : `${place}, ${here.diverse ?? 0} of ${total(here)} starts learn both features, ${here.collapsed_strong ?? 0} collapse on the strong one, ${here.unlearned ?? 0} leave a neuron unlearned.`;
    $("diagram-source").textContent = reference(values)
      ? `${grid.starts} starts in each cell, computed by the Python lab; every cell runs 30,000 times as long as half of the starts need for their first feature. Without a head about a third of the starts learn both, at any d.`
      : `${STARTS} starts in each cell, computed here for your settings: ${known} of ${counts.length} cells.`;
    $("diagram").setAttribute("aria-label", `Phase diagram. ${$("diagram-caption").textContent}`);
  }

  const total = (one) => Object.values(one).reduce((a, b) => a + b, 0);

  function answered({ id, done, cell, counts: one }) {
    if (id !== key || done) return;
    counts[cell] = one;
    if (values.tab === "diagram") show();
  }

  function begin(change, background) {
    set = change;
    ask = background(answered);
    $("diagram").addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      const at = selected(),
        i = at % dims.length,
        j = Math.floor(at / dims.length);
      if (event.key === "Enter") {
        open(at);
      } else if (moves[event.key]) {
        event.preventDefault();
        const [di, dj] = moves[event.key];
        set({
          d: dims[charts.clamp(i + di, 0, dims.length - 1)],
          rho: rhos[charts.clamp(j + dj, 0, rhos.length - 1)],
        });
      }
    });
    const bar = charts.svg(
      "svg",
      { width: 180, height: 14, role: "img", "aria-label": "colour scale from 0 to 100 %" },
      Array.from({ length: 60 }, (_, i) =>
        charts.svg("rect", {
          x: 3 * i,
          y: 0,
          width: 3.3,
          height: 14,
          fill: pictures.shade(i / 59),
        }),
      ),
    );
    $("diagram-scale").replaceChildren("0 %", bar, "100 %");
  }

  return { begin, render, grid };
})();
