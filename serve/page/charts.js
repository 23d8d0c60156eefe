// Charts as SVG: a line or a band over time, with marks of events. Text goes in as text, never as markup.
"use strict";

function svg(name, attributes, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) e.setAttribute(key, value);
  e.append(...children);
  return e;
}

const rounded = (x) => (x === 0 ? "0" : Math.abs(x) >= 100 ? x.toFixed(0) : Math.abs(x) >= 1 ? x.toFixed(1) : String(Number(x.toPrecision(2))));

// One path through the points that are there; a gap in the data is a gap in the line.
function path(points) {
  let text = "", open = false;
  for (const [x, y] of points) {
    if (y === null) { open = false; continue; }
    text += (open ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1);
    open = true;
  }
  return text;
}

// A point that has no neighbours has no line either.
const alone = (points) => points.filter(([, y], i) => y !== null && (points[i - 1] || [0, null])[1] === null && (points[i + 1] || [0, null])[1] === null);

// A round end of an axis that holds the value.
function roundUp(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((m) => m * size).find((end) => end >= value);
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  return (v) => from + ((v - low) / span) * (to - from);
}

const SHAPES = {
  failure: (x, y) => "M" + (x - 5) + " " + (y - 5) + "l10 10m0 -10l-10 10",
  maintenance: (x, y) => "M" + x + " " + (y - 6) + "l6 6l-6 6l-6 -6z",
  error: (x, y) => "M" + x + " " + (y - 5) + "l5 9h-10z",
};
const WORDS = { failure: "\u2715 failure", maintenance: "\u25c6 maintenance", error: "\u25b2 error" };

/* A chart over time. `about` holds title, low, high, written (a value as text), lines [{kind, points [[ms, value]]}],
   band [[ms, low, high]], events [{at, kind}], span [first, last] in ms, moment (a time as text), width, height, usual. */
function chart(about) {
  const width = about.width, height = about.height || 170, left = 52, right = 8, top = 8, bottom = 22;
  const x = scale(about.span[0], about.span[1], left, width - right), y = scale(about.low, about.high, height - bottom, top);
  const root = svg("svg", { viewBox: "0 0 " + width + " " + height, role: "img", "aria-label": about.title });
  for (const value of [about.low, (about.low + about.high) / 2, about.high]) {
    root.append(svg("path", { class: "axis", d: "M" + left + " " + y(value) + "H" + (width - right) }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, about.written(value)));
  }
  for (const [at, anchor] of [[about.span[0], "start"], [about.span[1], "end"]])
    root.append(svg("text", { x: x(at), y: height - 6, "text-anchor": anchor }, about.moment(at)));
  if (about.band && about.band.length) {
    const there = about.band.map(([t, low, high]) => [x(t), y(low), y(high)]);
    root.append(svg("path", { class: "band", d: path([...there.map(([t, , high]) => [t, high]), ...there.reverse().map(([t, low]) => [t, low])]) + "Z" }));
  }
  if (about.usual !== undefined && about.usual !== null && about.usual >= about.low && about.usual <= about.high)
    root.append(svg("path", { class: "usual", d: "M" + left + " " + y(about.usual) + "H" + (width - right) }));
  for (const line of about.lines) {
    const points = line.points.map(([t, v]) => [x(t), v === null ? null : y(v)]);
    root.append(svg("path", { class: line.kind, d: path(points) }));
    for (const [px, py] of alone(points)) root.append(svg("circle", { class: "dot", cx: px, cy: py, r: 2 }));
  }
  for (const event of about.events || []) {
    const shape = SHAPES[event.kind];
    if (!shape || event.at < about.span[0] || event.at > about.span[1]) continue;
    root.append(svg("path", { class: "event", d: "M" + x(event.at) + " " + top + "V" + (height - bottom) }),
      svg("path", { class: event.kind === "failure" ? "event" : "mark", d: shape(x(event.at), height - bottom) }, svg("title", {}, event.text)));
  }
  return root;
}

// A share of one as a bar, beside the number that says it.
function bar(share, kind) {
  return svg("svg", { class: "bar", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "bar-full", width: 100, height: 14 }), svg("rect", { class: kind, width: Math.max(1, 100 * Math.min(1, share)), height: 14 }));
}
