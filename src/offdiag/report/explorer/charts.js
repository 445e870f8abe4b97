"use strict";
// Pictures as SVG, from plain descriptions: they take values and compute none. Colours are
// classes k0 to k7 of the style sheet, so that a picture follows light and dark by itself.
const charts = (() => {
  const NS = "http://www.w3.org/2000/svg";

  function svg(name, attributes = {}, children = []) {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== false) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  const number = (x) => Math.round(x * 100) / 100;
  const FORMAT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 6 });
  const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const superscript = (n) =>
    (n < 0 ? "⁻" : "") + [...String(Math.abs(n))].map((digit) => SUPERSCRIPT[digit]).join("");

  // A number as a reader wants it: 0.055, 8,100, 3.2 × 10⁷.
  function words(x, digits = 2) {
    if (!Number.isFinite(x)) return "never";
    const size = Math.abs(x);
    if (size !== 0 && (size >= 1e6 || size < 1e-3)) {
      const power = Math.floor(Math.log10(size)),
        factor = Number((x / 10 ** power).toPrecision(digits));
      return factor === 1 ? `10${superscript(power)}` : `${factor} × 10${superscript(power)}`;
    }
    return FORMAT.format(Number(x.toPrecision(digits)));
  }

  // A scale from a domain to pixels, linear or logarithmic, with its ticks.
  function scale({ domain: [low, high], log }, from, to, most) {
    const place = log ? Math.log10 : (x) => x;
    const a = place(low),
      b = place(high),
      at = (x) => from + ((place(x) - a) / (b - a)) * (to - from);
    const ticks = [];
    if (log) {
      const every = Math.max(1, Math.ceil((b - a) / most));
      for (let power = Math.ceil(a - 1e-9); power <= b + 1e-9; power++) {
        if (power % every === 0)
          ticks.push({
            at: at(10 ** power),
            text: Math.abs(power) > 2 ? `10${superscript(power)}` : String(10 ** power),
          });
      }
    } else {
      const rough = (b - a) / most,
        unit = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((times) => times * unit).find((value) => value >= rough);
      for (let i = Math.ceil(a / step - 1e-9); i * step <= b + 1e-9 * step; i++) {
        ticks.push({ at: at(i * step), text: String(Number((i * step).toPrecision(8))) });
      }
    }
    return { at, ticks };
  }

  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  // Points closer than a third of a pixel to the one before are left out, but not the last.
  function path(points, x, y, box) {
    let d = "",
      pen = "M",
      lastX = NaN,
      lastY = NaN,
      left = points.length;
    for (const [a, b] of points) {
      const px = x.at(a),
        py = y.at(b);
      left -= 1;
      if (!Number.isFinite(px) || !Number.isFinite(py)) {
        pen = "M";
        continue;
      }
      if (pen === "L" && left > 0 && Math.abs(px - lastX) < 0.33 && Math.abs(py - lastY) < 0.33)
        continue;
      lastX = px;
      lastY = py;
      d += `${pen}${number(clamp(px, box.left - 1e4, box.right + 1e4))} ${number(clamp(py, -1e4, 1e4))}`;
      pen = "L";
    }
    return d;
  }

  // Draws `spec` into `holder` at its width: axes, shaded bands, rules, stacked areas, lines,
  // points, arrows of a field. `left` lines pictures up. Returns the scales, for a cursor that moves over it.
  function draw(holder, spec, { height = 190, left = 0 } = {}) {
    const width = Math.max(240, holder.clientWidth || 480);
    const box = { right: width - 12, top: spec.bands?.length ? 22 : 10, bottom: height - 38 };
    const y = scale(
      spec.y,
      box.bottom,
      box.top,
      Math.max(2, Math.floor((box.bottom - box.top) / 34)),
    );
    box.left = left || 28 + 6.4 * Math.max(2, ...y.ticks.map((tick) => tick.text.length));
    const x = scale(
      spec.x,
      box.left,
      box.right,
      Math.max(2, Math.floor((box.right - box.left) / 70)),
    );
    const id = holder.id,
      parts = [];

    for (const band of spec.bands ?? []) {
      const from = clamp(x.at(band.from), box.left, box.right),
        to = clamp(x.at(band.to), box.left, box.right);
      if (!(to > from)) continue;
      parts.push(
        svg("rect", {
          class: `band b${band.index}`,
          x: number(from),
          y: box.top,
          width: number(to - from),
          height: box.bottom - box.top,
        }),
      );
      if (to - from > 14) {
        const name =
          to - from > 6.2 * band.name.length + 26 ? `${band.mark} ${band.name}` : band.mark;
        parts.push(
          svg(
            "text",
            { class: "mark", x: number((from + to) / 2), y: box.top - 7, "text-anchor": "middle" },
            [name],
          ),
        );
      }
    }
    for (const tick of y.ticks) {
      parts.push(
        svg("line", {
          class: "gridline",
          x1: box.left,
          x2: box.right,
          y1: number(tick.at),
          y2: number(tick.at),
        }),
      );
      parts.push(
        svg("text", { x: box.left - 7, y: number(tick.at + 4), "text-anchor": "end" }, [tick.text]),
      );
    }
    for (const tick of spec.x.bare ? [] : x.ticks) {
      parts.push(
        svg("line", {
          class: "axis",
          x1: number(tick.at),
          x2: number(tick.at),
          y1: box.bottom,
          y2: box.bottom + 4,
        }),
      );
      parts.push(
        svg("text", { x: number(tick.at), y: box.bottom + 17, "text-anchor": "middle" }, [
          tick.text,
        ]),
      );
    }
    parts.push(
      svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    );
    parts.push(svg("text", { x: box.right, y: height - 5, "text-anchor": "end" }, [spec.x.label]));
    if (spec.y.label) {
      const middle = (box.top + box.bottom) / 2;
      parts.push(
        svg("text", { transform: `translate(11 ${middle}) rotate(-90)`, "text-anchor": "middle" }, [
          spec.y.label,
        ]),
      );
    }

    const inside = [];
    for (const [a, b, da, db] of spec.field ?? []) {
      const size = Math.hypot(da, db);
      if (!(size > 0)) continue;
      const length = 9,
        px = x.at(a),
        py = y.at(b),
        dx = (length * da) / size,
        dy = (-length * db) / size;
      inside.push(
        svg("path", {
          class: "field",
          d: `M${number(px - dx / 2)} ${number(py - dy / 2)}l${number(dx)} ${number(dy)}m${number(-0.45 * dx - 0.25 * dy)} ${number(-0.45 * dy + 0.25 * dx)}L${number(px + dx / 2)} ${number(py + dy / 2)}l${number(-0.45 * dx + 0.25 * dy)} ${number(-0.45 * dy - 0.25 * dx)}`,
        }),
      );
    }
    for (const area of spec.areas ?? []) {
      const upper = path(
        area.points.map(([a, , top]) => [a, top]),
        x,
        y,
        box,
      );
      const lower = path(
        area.points.map(([a, bottom]) => [a, bottom]).reverse(),
        x,
        y,
        box,
      ).replace("M", "L");
      inside.push(
        svg("path", {
          class: `area f${area.colour}${area.hatched ? " under" : ""}`,
          d: `${upper}${lower}Z`,
        }),
      );
      if (area.hatched)
        inside.push(svg("path", { fill: `url(#${id}-hatch)`, d: `${upper}${lower}Z` }));
    }
    for (const line of spec.lines ?? []) {
      const style = `line k${line.colour}${line.dash ? " dash" : ""}${line.ghost ? " ghost" : ""}${line.strong === false ? " thin" : ""}`;
      inside.push(
        svg("path", { class: style, "data-name": line.name, d: path(line.points, x, y, box) }),
      );
      if (line.end && line.points.length) {
        const [a, b] = line.points.at(-1),
          [a0, b0] = line.points[0];
        inside.push(
          svg("circle", {
            class: `dot hollow k${line.colour}`,
            cx: number(x.at(a0)),
            cy: number(y.at(b0)),
            r: 3.5,
          }),
        );
        inside.push(
          svg("circle", {
            class: `dot f${line.colour}`,
            cx: number(x.at(a)),
            cy: number(y.at(b)),
            r: 4.5,
          }),
        );
      }
    }
    for (const point of spec.points ?? []) {
      inside.push(
        svg("circle", {
          class: `dot f${point.colour}`,
          cx: number(x.at(point.x)),
          cy: number(y.at(point.y)),
          r: 5,
        }),
      );
    }
    for (const rule of spec.rules ?? []) {
      const at = rule.axis === "x" ? x.at(rule.at) : y.at(rule.at);
      if (rule.axis === "x" ? at < box.left || at > box.right : at < box.top || at > box.bottom)
        continue;
      const ends =
        rule.axis === "x"
          ? { x1: at, x2: at, y1: box.top, y2: box.bottom }
          : { x1: box.left, x2: box.right, y1: at, y2: at };
      inside.push(svg("line", { class: "rule", ...ends }));
      const beyond = rule.axis === "x" && at > box.right - 90;
      const near =
        rule.axis === "x"
          ? { x: at + (beyond ? -5 : 5), y: box.top + 11, "text-anchor": beyond ? "end" : "start" }
          : { x: box.right - 4, y: at - 5, "text-anchor": "end" };
      inside.push(svg("text", { class: "rule-label", ...near }, [rule.label]));
    }
    const clip = svg("clipPath", { id: `${id}-clip` }, [
      svg("rect", {
        x: box.left,
        y: box.top - 6,
        width: box.right - box.left + 6,
        height: box.bottom - box.top + 12,
      }),
    ]);
    const hatch = svg(
      "pattern",
      {
        id: `${id}-hatch`,
        width: 6,
        height: 6,
        patternUnits: "userSpaceOnUse",
        patternTransform: "rotate(45)",
      },
      [svg("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 6 })],
    );
    const cursor = svg("line", { class: "cursor", y1: box.top, y2: box.bottom, x1: -9, x2: -9 });
    const picture = svg(
      "svg",
      {
        width,
        height,
        viewBox: `0 0 ${width} ${height}`,
        role: "img",
        "aria-label": spec.title,
        "data-x": [...spec.x.domain, spec.x.log ? "log" : ""].join(" ").trim(),
        "data-y": spec.y.domain.join(" "),
        "data-box": [box.left, box.right, box.top, box.bottom].join(" "),
      },
      [
        svg("defs", {}, [clip, hatch]),
        ...parts,
        svg("g", { "clip-path": `url(#${id}-clip)` }, inside),
        cursor,
      ],
    );
    holder.replaceChildren(picture);
    const move = (value) => {
      const at = clamp(x.at(value), box.left, box.right);
      cursor.setAttribute("x1", number(at));
      cursor.setAttribute("x2", number(at));
    };
    return { x, y, box, move };
  }

  // The key of a chart, as HTML.
  function legend(holder, entries) {
    holder.replaceChildren(
      ...entries.map(({ name, colour, dash, ghost, fill, hatched }) => {
        const item = document.createElement("span");
        const sample = fill
          ? svg("svg", { width: 16, height: 12, "aria-hidden": "true" }, [
              svg("rect", { class: `area f${colour}`, width: 16, height: 12 }),
              hatched ? svg("path", { class: "hatch", d: "M0 12L12 0M6 14L18 2M-4 8L6 -2" }) : null,
            ])
          : svg("svg", { width: 24, height: 12, "aria-hidden": "true" }, [
              svg("path", {
                class: `line k${colour}${dash ? " dash" : ""}${ghost ? " ghost" : ""}`,
                d: "M0 6H24",
              }),
            ]);
        item.append(sample, name);
        return item;
      }),
    );
  }

  return { svg, draw, legend, words, number, superscript, scale, clamp };
})();
