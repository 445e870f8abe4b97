"use strict";
// The third tab: the other dynamics. Each module says its settings, solves, and describes its
// pictures; here they are drawn.
const theories = (() => {
  const $ = (id) => document.getElementById(id);
  let key = "",
    solution = null;

  function render(all) {
    const dynamics = state.DYNAMICS.find((one) => one.key === all.theory),
      parameters = state.parameters(all, dynamics);
    const fresh = JSON.stringify([all.theory, parameters]);
    if (fresh !== key) {
      key = fresh;
      solution = dynamics.solve(parameters);
    }
    $("theory-title").textContent = dynamics.title;
    $("theory-paper").textContent = dynamics.paper;
    $("theory-question").textContent = dynamics.question;
    $("theory-equation").textContent = dynamics.equation;
    $("theory-caption").textContent = dynamics.sentence(solution);
    dynamics.charts(solution).forEach((spec, i) => {
      $(`theory-chart-${i}-title`).textContent = spec.title;
      charts.draw($(`theory-chart-${i}`), spec, { height: 300 });
      charts.legend($(`theory-chart-${i}-legend`), spec.legend ?? spec.lines);
    });
  }

  return { render, read: () => solution };
})();
