// Charts, drawn by uPlot: lines over time, and a histogram. Colours are those of the theme.

import { $, make } from "./dom.js";

const uPlot = window.uPlot;
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const drawn = new Set();

function axis(more) {
  const [text, line] = [color("--quiet"), color("--line")];
  return {
    stroke: text,
    grid: { stroke: line, width: 1 },
    ticks: { stroke: line, width: 1, size: 4 },
    font: "11px system-ui, sans-serif",
    ...more,
  };
}

/** A chart in the element `id` that is as wide as it, and drawn anew when the theme changes.
 * `options()` gives uPlot's options. */
class Chart {
  constructor(id, options, data) {
    this.place = $(id);
    Object.assign(this, { options, data });
    drawn.add(this);
    new ResizeObserver(() => this.resize()).observe(this.place);
    this.draw();
  }

  size() {
    return { width: Math.max(this.place.clientWidth, 120), height: this.place.clientHeight || 190 };
  }

  draw() {
    this.plot?.destroy();
    this.plot = new uPlot({ ...this.size(), ...this.options() }, this.data, this.place);
  }

  resize() {
    const size = this.size();
    if (size.width !== this.plot.width || size.height !== this.plot.height) this.plot.setSize(size);
  }

  update(data) {
    this.data = data;
    this.plot.setData(data);
  }
}

addEventListener("theme", () => {
  for (const chart of drawn) chart.draw();
});

/** A tick of an axis of time, `step` seconds from the next. */
function moment(tick, step) {
  const time = new Date(tick * 1000);
  if (step >= 86400) return time.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const text = time.toLocaleTimeString("en-GB");
  return step >= 60 ? text.slice(0, 5) : text;
}

/** Two lines over time, what came in and what went out, with a legend that tells the values under
 * the pointer, else the last ones. `format` makes text of a value, `short` text of a tick. */
export class InOut {
  constructor(id, legend, format, label, short = format) {
    Object.assign(this, { format, label, id, short });
    this.texts = ["Received", "Sent"].map((name, at) => {
      const value = make("b", { textContent: "–" });
      const item = make("span", { className: at === 0 ? "in" : "out" }, make("i"), `${name} `, value);
      $(legend).append(item);
      return value;
    });
    this.when = make("span");
    $(legend).append(this.when);
    this.chart = new Chart(id, () => this.options(), [[], [], []]);
  }

  options() {
    const line = (name) => ({
      stroke: color(name),
      fill: `${color(name)}22`,
      width: 1.5,
      points: { show: false },
      spanGaps: false,
    });
    return {
      legend: { show: false },
      padding: [8, 16, 0, 0],
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      series: [{}, line("--in"), line("--out")],
      axes: [
        axis({ space: 76, size: 26, values: (_, ticks, __, ___, step) => ticks.map((tick) => moment(tick, step)) }),
        axis({ size: 78, space: 34, values: (_, ticks) => ticks.map((tick) => this.short(tick)) }),
      ],
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx)] },
    };
  }

  update(data) {
    this.chart.update(data);
    this.tell(this.chart.plot.cursor.idx);
    const [last, most] = [1, 2].map((at) => [data[at].at(-1), Math.max(0, ...data[at])]).reduce(
      ([a, b], [c, d]) => [[...a, c], [...b, d]], [[], []]);
    const words = ["received", "sent"].map(
      (name, at) => `${name} ${this.format(last[at] ?? 0)}, at most ${this.format(most[at])}`);
    $(this.id).setAttribute("aria-label", `${this.label}: ${words.join("; ")}`);
  }

  /** The values at this place; of none, the last. */
  tell(place) {
    const data = this.chart?.data;
    if (!data) return;
    const pointed = place !== null && place !== undefined && place < data[0].length;
    const at = pointed ? place : data[0].length - 1;
    this.texts.forEach((text, series) => {
      text.textContent = data[series + 1][at] === undefined ? "–" : this.format(data[series + 1][at] ?? 0);
    });
    const time = pointed ? new Date(data[0][at] * 1000) : null;
    const day = time && Date.now() - time > 86400e3;
    this.when.textContent = time ? (day ? time.toLocaleString("en-GB") : time.toLocaleTimeString("en-GB")) : "";
  }
}

/** Bars, one for each bucket `[upper, count]`. */
export class Bars {
  constructor(id, legend, format) {
    Object.assign(this, { format, buckets: [] });
    this.text = $(legend);
    this.chart = new Chart(id, () => this.options(), [[], []]);
  }

  options() {
    const name = (at) => (Number.isInteger(at) && this.buckets[at] ? this.format(this.buckets[at][0]) : "");
    return {
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: false, range: () => [-0.6, Math.max(this.buckets.length, 1) - 0.4] },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] },
      },
      series: [
        {},
        {
          stroke: color("--in"),
          fill: `${color("--in")}88`,
          width: 1,
          paths: uPlot.paths.bars({ size: [0.92, 80] }),
          points: { show: false },
        },
      ],
      axes: [
        axis({ space: 56, size: 26, incrs: [1, 2, 4, 8], values: (_, ticks) => ticks.map(name) }),
        axis({ size: 56, space: 36, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString("en-US") : "")) }),
      ],
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx)] },
    };
  }

  update(buckets) {
    this.buckets = buckets;
    this.chart.update([buckets.map((_, at) => at), buckets.map(([, count]) => count)]);
    this.tell(null);
  }

  tell(place) {
    const bucket = this.buckets[place];
    this.text.textContent = bucket
      ? `${bucket[1].toLocaleString("en-US")} took ${this.format(bucket[0] / 2)} to ${this.format(bucket[0])}`
      : "";
  }
}
