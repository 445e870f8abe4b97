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

  // Tables that sort by their columns, and filters that hide the rows that do not match.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button")?.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const key = (row) => {
          const cell = row.cells[column];
          return cell.dataset.value ?? (column ? "" : cell.textContent);
        };
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last
          const numbers = !Number.isNaN(Number(x)) && !Number.isNaN(Number(y));
          return (rising ? 1 : -1) * (numbers ? Number(x) - Number(y) : x.localeCompare(y));
        };
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
      });
    });
  }
  const filters = [...document.querySelectorAll("select[data-filter]")];
  for (const filter of filters) {
    filter.addEventListener("change", () => {
      for (const row of document.querySelectorAll("[data-kind]")) {
        row.hidden = filters.some(
          ({ value, dataset }) => value && !row.dataset[dataset.filter].split(" ").includes(value),
        );
      }
    });
  }

  dark.addEventListener("change", drawAll);
  drawAll();
})();
