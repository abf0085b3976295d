// A strip chart of the last seconds: milliseconds on the left, the window's tokens on the right.

const SPAN_MS = 30_000;
const MARGIN = { left: 34, right: 26, top: 8, bottom: 10 };
const SERIES = [
  { name: "latency", dash: [], axis: "ms" },
  { name: "rtt", dash: [6, 4], axis: "ms" },
  { name: "window", dash: [2, 3], axis: "tokens" },
];

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
    this.lastToken = null;
    this.isDue = false;
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  begin() {
    this.lastToken = null; // the time between two answers is no latency
  }

  add({ rtt_ms: rtt, window: ahead }) {
    const now = performance.now();
    const latency = this.lastToken === null ? null : now - this.lastToken;
    this.lastToken = now;
    this.points.push({ at: now, latency, rtt, window: ahead });
    while (this.points.length && this.points[0].at < now - SPAN_MS) this.points.shift();
    this.redraw();
    return this.newest();
  }

  // Means over the last second for latency, which comes in bursts; the others as they are.
  newest() {
    const last = this.points.at(-1);
    const gaps = this.points.filter((point) => point.latency !== null && point.at > last.at - 1000);
    const latency = gaps.length ? gaps.reduce((sum, point) => sum + point.latency, 0) / gaps.length : null;
    return { latency, rtt: last.rtt, window: last.window };
  }

  redraw() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.draw();
    });
  }

  draw() {
    const { canvas, points } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const scale = devicePixelRatio;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const tops = {
      ms: niceTop(Math.max(50, ...points.flatMap((point) => [point.latency ?? 0, point.rtt ?? 0]))),
      tokens: niceTop(Math.max(5, ...points.map((point) => point.window))),
    };
    const end = points.at(-1)?.at ?? 0;
    const x = (at) => MARGIN.left + (1 - (end - at) / SPAN_MS) * (width - MARGIN.left - MARGIN.right);
    const y = (value, axis) => height - MARGIN.bottom - (value / tops[axis]) * (height - MARGIN.top - MARGIN.bottom);
    context.font = "10px system-ui, sans-serif";
    context.strokeStyle = style.getPropertyValue("--edge");
    context.fillStyle = style.getPropertyValue("--soft");
    for (const share of [0, 0.5, 1]) {
      const level = y(share * tops.ms, "ms");
      line(context, [[MARGIN.left, level], [width - MARGIN.right, level]]);
      context.textAlign = "right";
      context.fillText(share * tops.ms, MARGIN.left - 4, level + 3);
      context.textAlign = "left";
      context.fillText(share * tops.tokens, width - MARGIN.right + 4, level + 3);
    }
    context.lineWidth = 2;
    context.lineJoin = "round";
    for (const { name, dash, axis } of SERIES) {
      context.strokeStyle = style.getPropertyValue(`--${name}`);
      context.setLineDash(dash);
      const known = points.filter((point) => point[name] !== null && point[name] !== undefined);
      line(context, known.map((point) => [x(point.at), y(point[name], axis)]));
    }
    if (points.length) canvas.setAttribute("aria-label", this.words());
  }

  words() {
    const { latency, rtt, window: ahead } = this.newest();
    const known = [`window ${ahead} tokens`];
    if (latency !== null) known.push(`${Math.round(latency)} milliseconds between tokens`);
    if (rtt !== null) known.push(`round trip ${Math.round(rtt)} milliseconds`);
    return `Strip chart: ${known.join(", ")}`;
  }
}

function line(context, places) {
  context.beginPath();
  for (const [x, y] of places) context.lineTo(x, y);
  context.stroke();
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((top) => top >= value);
}
