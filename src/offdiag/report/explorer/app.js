"use strict";
// Glue: controls made from the table of state, the tabs, the theme, the hash of the address.
(() => {
  const $ = (id) => document.getElementById(id),
    page = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const values = state.parse(location.hash),
    controls = new Map();
  const TABS = { theorem, diagram, theories };
  const PHONE = 760;

  const PRESETS = {
    "The paper": {},
    "No head": { head: false },
    "No stop-gradient": { stop: false },
    "No normaliser": { bn: false },
    "Slow head": { rho: 1e-4 },
    "Lives off the head": { d: 100000, rho: 0.1, start: 4 },
  };
  const PROBLEM = state.TABLE.filter((row) => ["data", "network", "start"].includes(row.group));

  // Background work, in a worker made from this page's own script; here where that fails.
  function background(answer) {
    const here = many.runner(answer);
    let worker = null,
      last = null;
    try {
      worker = new Worker(
        URL.createObjectURL(new Blob([$("model").textContent], { type: "text/javascript" })),
      );
      worker.onmessage = (event) => answer(event.data);
      worker.onerror = (event) => {
        event.preventDefault();
        worker = null;
        if (last) here(last);
      };
    } catch {
      worker = null;
    }
    return (request) => {
      last = request;
      if (worker) worker.postMessage(request);
      else here(request);
    };
  }

  let waiting = 0,
    writing = 0;
  function set(patch, { settled = false } = {}) {
    Object.assign(values, patch);
    if (!waiting) {
      waiting = requestAnimationFrame(() => {
        waiting = 0;
        render(settled);
      });
    }
    clearTimeout(writing);
    // Browsers limit how often an address may change.
    writing = setTimeout(() => {
      try {
        history.replaceState(
          null,
          "",
          location.pathname + location.search + state.serialise(values),
        );
      } catch {
        // A frame may have no address to change; the page works without.
      }
    }, 200);
  }

  function theme() {
    const name = values.theme === "auto" ? (dark.matches ? "dark" : "light") : values.theme;
    page.dataset.theme = name;
    $("theme").textContent = name === "dark" ? "☀ Light" : "☾ Dark";
  }

  function render(settled) {
    theme();
    for (const name of Object.keys(TABS)) {
      $(`tab-${name}`).setAttribute("aria-selected", String(values.tab === name));
      $(`tab-${name}`).tabIndex = values.tab === name ? 0 : -1;
      $(`panel-${name}`).hidden = values.tab !== name;
    }
    $("controls-problem").hidden = values.tab === "theories";
    $("controls-theories").hidden = values.tab !== "theories";
    for (const one of state.DYNAMICS) $(`controls-${one.key}`).hidden = values.theory !== one.key;
    controls.forEach((show) => show());
    if (values.tab !== "theorem") theorem.pause();
    TABS[values.tab].render(values, { settled });
    page.dataset.drawn = state.serialise(values) || "#";
  }

  function control(row) {
    const id = `set-${row.key.replace(".", "-")}`,
      holder = document.createElement("div");
    const label = document.createElement("label");
    label.htmlFor = id;
    label.textContent = row.label;
    holder.className = `control ${row.kind}`;
    let input, show;
    if (row.kind === "choice") {
      input = document.createElement("select");
      input.append(...Object.entries(row.choices).map(([value, text]) => new Option(text, value)));
      input.addEventListener("change", () => set({ [row.key]: input.value }));
      show = () => (input.value = values[row.key]);
      holder.append(label, input);
    } else if (row.kind === "switch") {
      input = document.createElement("input");
      input.type = "checkbox";
      input.addEventListener("change", () => set({ [row.key]: input.checked }));
      show = () => (input.checked = values[row.key]);
      holder.append(input, label);
    } else {
      const output = document.createElement("output");
      output.htmlFor = id;
      input = document.createElement("input");
      input.type = "range";
      input.min = String(state.toSlider(row, row.low));
      input.max = String(state.toSlider(row, row.high));
      input.step = String(row.kind === "whole" && !row.log ? 1 : row.step);
      input.addEventListener("input", () =>
        set({ [row.key]: state.fromSlider(row, Number(input.value)) }),
      );
      show = () => {
        input.value = String(state.toSlider(row, values[row.key]));
        output.textContent = charts.words(values[row.key], 3);
        input.setAttribute("aria-valuetext", output.textContent);
      };
      holder.append(label, output, input);
    }
    input.id = id;
    controls.set(row.key, show);
    return holder;
  }

  function build() {
    for (const group of ["data", "network", "start"]) {
      $(`controls-${group}`).append(
        ...state.TABLE.filter((row) => row.group === group).map(control),
      );
    }
    $("presets").append(
      ...Object.entries(PRESETS).map(([name, patch]) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = name;
        button.addEventListener("click", () =>
          set(
            { ...Object.fromEntries(PROBLEM.map((row) => [row.key, row.value])), ...patch },
            { settled: true },
          ),
        );
        return button;
      }),
    );
    $("choose-theory").append(control(state.ROWS.get("theory")));
    $("choose-axis").append(control(state.ROWS.get("axis")));
    $("choose-show").append(control(state.ROWS.get("show")));
    for (const one of state.DYNAMICS) {
      const holder = document.createElement("div");
      holder.id = `controls-${one.key}`;
      holder.append(...state.TABLE.filter((row) => row.group === one.key).map(control));
      $("controls-theories").append(holder);
    }
    const names = Object.keys(TABS);
    names.forEach((name, i) => {
      const tab = $(`tab-${name}`);
      tab.addEventListener("click", () => set({ tab: name }));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = names[(i + step + names.length) % names.length];
        set({ tab: next });
        $(`tab-${next}`).focus();
      });
    });
    $("theme").addEventListener("click", () =>
      set({ theme: page.dataset.theme === "dark" ? "light" : "dark" }),
    );
    $("controls").open = window.innerWidth >= PHONE;
    dark.addEventListener("change", () => set({}));
    window.addEventListener("resize", () => set({}));
    // The event's own address: a write that was waiting may have replaced it meanwhile.
    window.addEventListener("hashchange", (event) => set(state.parse(new URL(event.newURL).hash)));
  }

  build();
  theorem.begin(set, background);
  diagram.begin(set, background);
  render(true);
  if (values.tab === "theorem" && !theorem.still.matches) theorem.play();
})();
