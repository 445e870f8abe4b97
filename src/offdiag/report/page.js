"use strict";
// Draws every chart of the page in the colours of its ground, light or dark, and lets the
// legend bring runs forward in all curves at once.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const grounds = read("grounds");
  const views = new Map();
  let focus = null;

  const show = (view) => {
    if ("focus" in (view.getState().signals ?? {})) view.signal("focus", focus).runAsync();
  };

  const draw = async (holder) => {
    const spec = read(`${holder.dataset.chart}-spec`);
    const config = { ...spec.config, ...grounds[dark.matches ? "dark" : "light"] };
    delete spec.config;
    views.get(holder)?.finalize();
    const { view } = await vegaEmbed(holder, spec, {
      config,
      logLevel: 1, // errors; a warning comes with every layer that is empty until it is hovered
      renderer: holder.dataset.renderer,
      ast: true, // no eval, so that the page's policy can forbid it
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: holder.dataset.chart,
      tooltip: { theme: dark.matches ? "dark" : "light" },
    });
    views.set(holder, view);
    show(view);
  };

  let round = 0;
  const drawAll = async () => {
    const mine = ++round;
    delete document.documentElement.dataset.drawn;
    for (const holder of document.querySelectorAll("[data-chart]")) {
      if (mine !== round) return; // the ground changed meanwhile: a newer round is on its way
      try {
        await draw(holder);
      } catch (error) {
        holder.textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      }
    }
    document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  };

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!pressed));
      const names = [...document.querySelectorAll(".legend [aria-pressed=true]")];
      focus = names.length ? names.map((one) => one.dataset.run) : null;
      document.body.classList.toggle("focused", focus !== null);
      views.forEach(show);
    });
  }

  dark.addEventListener("change", drawAll);
  drawAll();
})();
