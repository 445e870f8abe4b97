"use strict";
// The pictures that only the explorer has: the plane of features, the network at one moment,
// the dots of many starts, the phase diagram. Each takes values and draws; none computes.
const pictures = (() => {
  const { svg, number, clamp } = charts;
  const ALIKE = { role: "img" };

  // Signs that turn leader and follower towards positive features: the loss is the same for
  // -w and w, so this changes nothing but the picture.
  function facing({ found, points }) {
    const end = points.at(-1).c,
      main = wenLi.mainFeature(end);
    return end.map((row, j) => {
      const at = main[j] >= 0 ? main[j] : found.follower?.neuron === j ? found.follower.feature : 0;
      return Math.sign(row[at]) || 1;
    });
  }

  function arrow(className) {
    const line = svg("line", { class: className }),
      tip = svg("path", { class: `${className} tip` });
    const move = (x0, y0, x1, y1) => {
      const length = Math.hypot(x1 - x0, y1 - y0),
        size = Math.min(11, length);
      const ux = (x1 - x0) / (length || 1),
        uy = (y1 - y0) / (length || 1);
      for (const [key, value] of Object.entries({
        x1: x0,
        y1: y0,
        x2: x1 - ux * size * 0.6,
        y2: y1 - uy * size * 0.6,
      }))
        line.setAttribute(key, number(value));
      tip.setAttribute(
        "d",
        `M${number(x1)} ${number(y1)}L${number(x1 - ux * size + uy * size * 0.45)} ${number(y1 - uy * size - ux * size * 0.45)}L${number(x1 - ux * size - uy * size * 0.45)} ${number(y1 - uy * size + ux * size * 0.45)}Z`,
      );
    };
    return { nodes: [line, tip], move };
  }

  // The two neurons as arrows in the plane of the two features. Returns a function that moves
  // them to the points at an index.
  function plane(holder, solved) {
    const size = clamp(holder.clientWidth || 300, 220, 380),
      signs = facing(solved),
      { twin, found } = solved;
    const twinSigns = twin ? facing(twin) : null,
      shown = found.follower ? found.follower.neuron : 1;
    const every = twin ? [...solved.points, ...twin.points] : solved.points;
    const reach =
      1.18 * Math.max(0.3, ...every.map((point) => Math.max(...point.c.flat().map(Math.abs))));
    const low = -0.16 * reach,
      box = { left: 30, right: size - 10, top: 10, bottom: size - 30 };
    const x = charts.scale({ domain: [low, reach] }, box.left, box.right, 4);
    const y = charts.scale({ domain: [low, reach] }, box.bottom, box.top, 4);
    const place = (point, j, sign) => [x.at(sign * point.c[j][0]), y.at(sign * point.c[j][1])];
    // The way of neuron j to the point at `until`, as path data; steps below a third of a pixel
    // are left out.
    const way = (points, j, sign) => {
      const out = [];
      points.forEach((point, index) => {
        const [px, py] = place(point, j, sign),
          last = out.at(-1);
        if (!last || Math.abs(px - last.px) + Math.abs(py - last.py) > 0.33)
          out.push({ px, py, index });
      });
      return out;
    };
    const trail = (stops, until = Infinity) => {
      let d = "";
      for (const { px, py, index } of stops) {
        if (index > until) break;
        d += `${d ? "L" : "M"}${number(px)} ${number(py)}`;
      }
      return d;
    };
    const ways = [0, 1].map((j) => way(solved.points, j, signs[j]));
    const parts = [];
    for (const [scale, horizontal] of [
      [x, true],
      [y, false],
    ]) {
      for (const tick of scale.ticks) {
        const line = horizontal
          ? { x1: tick.at, x2: tick.at, y1: box.top, y2: box.bottom }
          : { x1: box.left, x2: box.right, y1: tick.at, y2: tick.at };
        parts.push(svg("line", { class: "gridline", ...line }));
        if (tick.text !== "0")
          parts.push(
            svg(
              "text",
              horizontal
                ? { x: tick.at, y: y.at(0) + 15, "text-anchor": "middle" }
                : { x: x.at(0) - 6, y: tick.at + 4, "text-anchor": "end" },
              [tick.text],
            ),
          );
      }
    }
    parts.push(
      svg("line", { class: "line k0 thin", x1: box.left, x2: box.right, y1: y.at(0), y2: y.at(0) }),
    );
    parts.push(
      svg("line", { class: "line k1 thin", x1: x.at(0), x2: x.at(0), y1: box.top, y2: box.bottom }),
    );
    parts.push(
      svg("text", { class: "name", x: box.right, y: size - 6, "text-anchor": "end" }, [
        "strong feature →",
      ]),
    );
    parts.push(
      svg(
        "text",
        {
          class: "name",
          transform: `translate(13 ${box.top + 4}) rotate(-90)`,
          "text-anchor": "end",
        },
        ["weak feature →"],
      ),
    );
    const ghost = twin ? arrow("arrow ghost") : null;
    if (twin)
      parts.push(
        svg("path", { class: "trail ghost", d: trail(way(twin.points, shown, twinSigns[shown])) }),
      );
    const arrows = [0, 1].map((j) => {
      parts.push(svg("path", { class: "trail faint", d: trail(ways[j]) }));
      return { ...arrow(`arrow n${j + 1}`), path: svg("path", { class: "trail" }) };
    });
    if (ghost) parts.push(...ghost.nodes);
    for (const one of arrows) parts.push(one.path, ...one.nodes);
    const labels = [0, 1].map((j) =>
      svg("g", { class: "badge" }, [
        svg("circle", { r: 9 }),
        svg("text", { y: 4, "text-anchor": "middle" }, [String(j + 1)]),
      ]),
    );
    parts.push(...labels);
    holder.replaceChildren(
      svg(
        "svg",
        {
          width: size,
          height: size,
          viewBox: `0 0 ${size} ${size}`,
          ...ALIKE,
          "aria-label": "The two neurons as arrows in the plane of the strong and the weak feature",
        },
        parts,
      ),
    );

    return (index, time) => {
      const point = solved.points[index],
        far = [];
      arrows.forEach((one, j) => {
        const [px, py] = place(point, j, signs[j]);
        one.move(x.at(0), y.at(0), px, py);
        one.path.setAttribute("d", trail(ways[j], index));
        const dx = px - x.at(0),
          dy = py - y.at(0),
          length = Math.hypot(dx, dy) || 1;
        // Beside the tip; on opposite sides where both arrows lie together.
        far.push([px + (14 * dx) / length, py + (14 * dy) / length]);
      });
      if (Math.hypot(far[0][0] - far[1][0], far[0][1] - far[1][1]) < 19) {
        far[0][1] -= 10;
        far[1][1] += 10;
      }
      labels.forEach((label, j) =>
        label.setAttribute(
          "transform",
          `translate(${number(clamp(far[j][0], 10, size - 10))} ${number(clamp(far[j][1], 10, size - 10))})`,
        ),
      );
      if (ghost) {
        const at = twin.points.findIndex((one) => one.time >= time);
        ghost.move(x.at(0), y.at(0), ...place(twin.points.at(at), shown, twinSigns[shown]));
      }
    };
  }

  const NETWORK = {
    width: 380,
    height: 300,
    columns: [50, 176, 324],
    inputs: [70, 150, 230],
    neurons: [100, 200],
  };

  // Data, neurons, head and outputs; a link is as thick as its weight is large. Returns a
  // function that redraws it for one point of the trajectory.
  function network(holder, { run }) {
    const {
        width,
        height,
        columns: [c0, c1, c2],
        inputs,
        neurons,
      } = NETWORK,
      k = run.constants;
    const links = [],
      bars = [],
      parts = [];
    const heading = (x, text) =>
      parts.push(svg("text", { class: "name", x, y: 22, "text-anchor": "middle" }, [text]));
    heading(c0, "data");
    heading(c1, "neurons");
    heading((c1 + c2) / 2, "head");
    heading(c2, "outputs");
    const curve = (x0, y0, x1, y1) =>
      `M${x0} ${y0}C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;
    neurons.forEach((y, j) => {
      inputs.forEach((from, i) =>
        links.push({
          input: i,
          neuron: j,
          node: svg("path", {
            class: `link k${i < 2 ? i : 5}`,
            d: curve(c0 + 34, from, c1 - 18, y),
          }),
        }),
      );
    });
    for (const [j, y] of neurons.entries()) {
      for (const [r, from] of neurons.entries()) {
        const crossing = j !== r,
          node = svg("path", {
            class: `link ${crossing ? `k${j > r ? 2 : 3}` : "straight"}`,
            d: curve(c1 + 18, from, c2 - 30, y),
          });
        links.push({ row: j, column: r, node });
      }
    }
    parts.push(...links.map((link) => link.node));
    ["strong", "weak", "noise"].forEach((name, i) => {
      parts.push(
        svg("rect", {
          class: `node area f${i < 2 ? i : 5}`,
          x: c0 - 34,
          y: inputs[i] - 15,
          width: 68,
          height: 30,
          rx: 7,
        }),
      );
      parts.push(
        svg("text", { class: "on", x: c0, y: inputs[i] + 5, "text-anchor": "middle" }, [name]),
      );
    });
    neurons.forEach((y, j) => {
      parts.push(
        svg("g", { class: "badge", transform: `translate(${c1} ${y})` }, [
          svg("circle", { r: 17 }),
          svg("text", { class: "large", y: 6, "text-anchor": "middle" }, [String(j + 1)]),
        ]),
      );
      const group = svg("g");
      bars.push({ group, y });
      parts.push(
        group,
        svg("rect", { class: "frame", x: c2 - 28, y: y - 38, width: 56, height: 76, rx: 4 }),
      );
    });
    parts.push(
      svg("text", { x: c2, y: height - 12, "text-anchor": "middle" }, ["share of variance"]),
    );
    const label = [0, 1].map((j) =>
      svg("text", {
        class: "weight",
        x: (c1 + c2) / 2 - 4,
        y: j ? 272 : 52,
        "text-anchor": "middle",
      }),
    );
    parts.push(...label);
    holder.replaceChildren(
      svg(
        "svg",
        {
          viewBox: `0 0 ${width} ${height}`,
          width: "100%",
          ...ALIKE,
          "aria-label": "The network: data, two neurons, the head, two outputs",
        },
        [
          svg("defs", {}, [
            svg(
              "pattern",
              {
                id: "network-hatch",
                width: 6,
                height: 6,
                patternUnits: "userSpaceOnUse",
                patternTransform: "rotate(45)",
              },
              [svg("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 6 })],
            ),
          ]),
          ...parts,
        ],
      ),
    );

    const bound = Math.sqrt((k.rho || 1) / k.power);
    return (point) => {
      for (const link of links) {
        let share = 0,
          most = 9;
        if (link.input !== undefined) {
          const value =
            link.input < 2
              ? Math.abs(point.c[link.neuron][link.input])
              : Math.sqrt(point.covariance[link.neuron][link.neuron] / k.noiseVariance);
          share = Math.min(1, value / 1.1);
        } else if (link.row === link.column) {
          share = 1;
          most = 3;
        } else {
          share = Math.min(1, Math.abs(point.head[link.row][link.column]) / bound);
        }
        link.node.setAttribute("stroke-width", number(most * share));
        link.node.setAttribute("visibility", share * most < 0.12 ? "hidden" : "visible");
      }
      label.forEach((text, j) => {
        text.textContent = k.rho
          ? `${story.entry(j, 1 - j)} ${charts.words(Math.abs(point.head[j][1 - j]), 2)}`
          : "";
      });
      bars.forEach(({ group, y }, j) => {
        const parts = wenLi.composition(k, point, j),
          stack = [];
        let bottom = y + 38;
        const put = (share, colour, hatched) => {
          const height = 76 * share;
          bottom -= height;
          const at = { x: c2 - 28, y: number(bottom), width: 56, height: number(height) };
          stack.push(svg("rect", { class: `area f${colour}${hatched ? " under" : ""}`, ...at }));
          if (hatched) stack.push(svg("rect", { fill: "url(#network-hatch)", ...at }));
        };
        put(parts.noise, 5, false);
        parts.features.forEach((part, l) => put(part.own, l, false));
        parts.features.forEach((part, l) => put(part.fed, l, true));
        group.replaceChildren(...stack);
      });
    };
  }

  const GLYPHS = {
    // outcome: colour and shape, so that neither is needed alone
    diverse: [2, "circle"],
    collapsed_strong: [0, "square"],
    collapsed_other: [1, "square"],
    unlearned: [5, "ring"],
    vanished: [4, "cross"],
    failed: [3, "cross"],
  };

  function glyph(outcome, x, y, r) {
    if (!outcome) return svg("circle", { class: "waiting", cx: x, cy: y, r: r * 0.3 });
    const [colour, shape] = GLYPHS[outcome] ?? GLYPHS.failed;
    if (shape === "circle") return svg("circle", { class: `dot f${colour}`, cx: x, cy: y, r });
    if (shape === "ring")
      return svg("circle", { class: `dot hollow k${colour}`, cx: x, cy: y, r: r - 0.8 });
    if (shape === "square")
      return svg("rect", {
        class: `dot f${colour}`,
        x: x - r * 0.85,
        y: y - r * 0.85,
        width: 1.7 * r,
        height: 1.7 * r,
      });
    return svg("path", {
      class: `line k${colour}`,
      d: `M${x - r * 0.7} ${y - r * 0.7}l${1.4 * r} ${1.4 * r}m${-1.4 * r} 0l${1.4 * r} ${-1.4 * r}`,
    });
  }

  const COLUMNS = 20;

  // One glyph for each start. `update` takes all outcomes and the index of the start shown.
  function dots(holder, count, choose) {
    const cell = clamp((holder.clientWidth || 260) / COLUMNS, 9, 17),
      r = cell * 0.36;
    const at = (index) => [
      number(((index % COLUMNS) + 0.5) * cell),
      number((Math.floor(index / COLUMNS) + 0.5) * cell),
    ];
    const nodes = Array.from({ length: count }, (_, index) => glyph(null, ...at(index), r)),
      drawn = Array(count).fill(null);
    const ring = svg("circle", { class: "chosen", r: number(cell * 0.56) });
    const width = COLUMNS * cell,
      height = Math.ceil(count / COLUMNS) * cell;
    const picture = svg(
      "svg",
      { width, height, viewBox: `-2 -2 ${width + 4} ${height + 4}`, ...ALIKE },
      [...nodes, ring],
    );
    holder.replaceChildren(picture);
    picture.addEventListener("click", (event) => {
      const frame = picture.getBoundingClientRect(),
        scale = (width + 4) / frame.width;
      const column = Math.floor(((event.clientX - frame.left) * scale - 2) / cell),
        row = Math.floor(((event.clientY - frame.top) * scale - 2) / cell);
      const index = row * COLUMNS + column;
      if (column >= 0 && column < COLUMNS && index >= 0 && index < count) choose(index);
    });
    return (outcomes, shown, label) => {
      outcomes.forEach((outcome, index) => {
        if (outcome === drawn[index]) return;
        const fresh = glyph(outcome, ...at(index), r);
        nodes[index].replaceWith(fresh);
        nodes[index] = fresh;
        drawn[index] = outcome;
      });
      const [x, y] = at(shown);
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      picture.setAttribute("aria-label", label);
    };
  }

  // Colours of a share from 0 to 1: viridis, by its anchors.
  const VIRIDIS = [
    "#440154",
    "#472d7b",
    "#3b528b",
    "#2c728e",
    "#21918c",
    "#28ae80",
    "#5ec962",
    "#addc30",
    "#fde725",
  ];
  function shade(share) {
    const at = clamp(share, 0, 1) * (VIRIDIS.length - 1),
      low = Math.min(VIRIDIS.length - 2, Math.floor(at));
    const channel = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    const mixed = [0, 1, 2].map((i) =>
      Math.round(
        channel(VIRIDIS[low], i) * (1 - at + low) + channel(VIRIDIS[low + 1], i) * (at - low),
      ),
    );
    return `rgb(${mixed.join(",")})`;
  }

  // Shares over dimension (across) and head learning rate (up). `update` takes a share or
  // null for every cell, and the chosen cell.
  function diagram(holder, { dims, rhos }, choose) {
    const width = clamp(holder.clientWidth || 600, 280, 860),
      height = Math.round(clamp(0.62 * width, 250, 500));
    const box = { left: 52, right: width - 10, top: 8, bottom: height - 40 };
    const edge = (values) => {
      const logs = values.map(Math.log10),
        half = (logs[1] - logs[0]) / 2;
      return [10 ** (logs[0] - half), 10 ** (logs.at(-1) + half)];
    };
    const x = charts.scale({ domain: edge(dims), log: true }, box.left, box.right, 8);
    const y = charts.scale({ domain: edge(rhos), log: true }, box.bottom, box.top, 8);
    const w = (box.right - box.left) / dims.length,
      h = (box.bottom - box.top) / rhos.length;
    const corner = (cell) => [
      box.left + (cell % dims.length) * w,
      box.bottom - (Math.floor(cell / dims.length) + 1) * h,
    ];
    const rects = Array.from({ length: dims.length * rhos.length }, (_, cell) => {
      const [cx, cy] = corner(cell);
      return svg("rect", {
        x: number(cx),
        y: number(cy),
        width: number(w + 0.4),
        height: number(h + 0.4),
        class: "empty",
      });
    });
    const chosen = svg("rect", { class: "chosen", width: number(w), height: number(h) });
    const parts = [...rects];
    for (const tick of x.ticks)
      parts.push(
        svg("line", {
          class: "axis",
          x1: tick.at,
          x2: tick.at,
          y1: box.bottom,
          y2: box.bottom + 4,
        }),
        svg("text", { x: tick.at, y: box.bottom + 17, "text-anchor": "middle" }, [tick.text]),
      );
    for (const tick of y.ticks)
      parts.push(
        svg("text", { x: box.left - 7, y: tick.at + 4, "text-anchor": "end" }, [tick.text]),
      );
    parts.push(svg("text", { x: box.right, y: height - 5, "text-anchor": "end" }, ["dimension d"]));
    parts.push(
      svg(
        "text",
        {
          transform: `translate(12 ${(box.top + box.bottom) / 2}) rotate(-90)`,
          "text-anchor": "middle",
        },
        ["head learning rate ρ"],
      ),
    );
    parts.push(chosen);
    const picture = svg(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        ...ALIKE,
        "aria-label": "Phase diagram over dimension and head learning rate",
      },
      parts,
    );
    holder.replaceChildren(picture);
    picture.addEventListener("click", (event) => {
      const frame = picture.getBoundingClientRect(),
        scale = width / frame.width;
      const column = Math.floor(((event.clientX - frame.left) * scale - box.left) / w),
        row = Math.floor((box.bottom - (event.clientY - frame.top) * scale) / h);
      if (column >= 0 && column < dims.length && row >= 0 && row < rhos.length)
        choose(row * dims.length + column);
    });
    return (shares, selected) => {
      shares.forEach((share, cell) => {
        rects[cell].setAttribute("class", share === null ? "empty" : "cell");
        if (share === null) rects[cell].removeAttribute("fill");
        else rects[cell].setAttribute("fill", shade(share));
      });
      const [cx, cy] = corner(selected);
      chosen.setAttribute("x", number(cx));
      chosen.setAttribute("y", number(cy));
    };
  }

  return { plane, network, dots, diagram, glyph, shade, GLYPHS };
})();
