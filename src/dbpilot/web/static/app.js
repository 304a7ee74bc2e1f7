// Charts, times in the reader's zone, and asking again every few seconds while somebody looks.
"use strict";
(() => {
  const EVERY_MS = 10000;
  const language = document.documentElement.lang;
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const plots = new Map();
  let paused = sessionStorage.getItem("dbpilot-paused") === "1";

  // ---- times
  const styles = {
    full: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    seconds: { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    time: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    day: { year: "numeric", month: "2-digit", day: "2-digit" },
    since: { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  };
  const formats = {};
  for (const [name, style] of Object.entries(styles)) formats[name] = new Intl.DateTimeFormat(language, style);
  function showTimes(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      time.textContent = (formats[time.dataset.how] || formats.full).format(at);
      time.title = time.dateTime;
    }
  }

  // ---- figures, as the server writes them
  const short = (n) => (n === 0 ? "0" : Math.abs(n) >= 100 ? n.toFixed(0) : Math.abs(n) >= 1 ? n.toFixed(1).replace(/\.0$/, "") : String(Number(n.toPrecision(2))));
  function said(value, unit) {
    if (value == null) return "–";
    if (unit === "s") {
      if (value === 0) return "0";
      if (value < 1e-3) return `${short(value * 1e6)} µs`;
      if (value < 1) return `${short(value * 1e3)} ms`;
      if (value < 60) return `${short(value)} s`;
      return value < 3600 ? `${short(value / 60)} min` : `${short(value / 3600)} h`;
    }
    if (unit === "share") return `${short(100 * value)} %`;
    const per = unit === "per_s" ? "/s" : "";
    for (const [bound, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (Math.abs(value) >= bound) return `${short(value / bound)}${letter}${per}`;
    return `${short(value)}${per}`;
  }

  // ---- charts over time
  const tick = (style) => new Intl.DateTimeFormat(language, style);
  const hourTick = tick({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const dayTick = tick({ month: "numeric", day: "numeric" });
  const dayHourTick = tick({ month: "numeric", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

  function marksPlugin(spec) {
    function draw(u) {
      const { ctx } = u;
      ctx.save();
      for (const mark of spec.marks || []) {
        if (mark.x < u.scales.x.min || mark.x > u.scales.x.max) continue;
        const x = Math.round(u.valToPos(mark.x, "x", true));
        ctx.strokeStyle = colour("violet");
        ctx.setLineDash([4, 4]);
        ctx.beginPath(); ctx.moveTo(x, u.bbox.top); ctx.lineTo(x, u.bbox.top + u.bbox.height); ctx.stroke();
      }
      ctx.setLineDash([]);
      for (const dot of spec.dots || []) {
        if (dot.x < u.scales.x.min || dot.x > u.scales.x.max) continue;
        ctx.fillStyle = colour("red");
        ctx.beginPath();
        ctx.arc(u.valToPos(dot.x, "x", true), u.valToPos(dot.y, "y", true), 3 * devicePixelRatio, 0, 2 * Math.PI);
        ctx.fill();
      }
      ctx.restore();
    }
    return { hooks: { draw } };
  }

  // Points between two gaps: a line has nothing to go to, and they would not be seen.
  const alone = (values) => values.flatMap((v, i) => (v != null && values[i - 1] == null && values[i + 1] == null ? [i] : []));

  function drawChart(element) {
    const spec = JSON.parse(element.dataset.chart);
    const grid = { stroke: colour("line"), width: 1 };
    const dim = colour("dim");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const most = Math.max(0, ...spec.lines.flatMap((line) => line.values.filter((v) => v != null)), ...(spec.dots || []).map((d) => d.y));
    const span = spec.span || [spec.x[0], spec.x[spec.x.length - 1]];
    const long = span[1] - span[0] > 2 * 86400;
    const options = {
      width: element.clientWidth, height: 170, padding: [8, 12, 0, 0], plugins: [marksPlugin(spec)],
      cursor: { y: false, points: { size: 5 }, sync: { key: "time" } },
      legend: { live: true },
      scales: {
        x: { time: true, range: () => (span[0] === span[1] ? [span[0] - 1800, span[1] + 1800] : span) },
        y: { range: () => spec.range || [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        { stroke: dim, font, grid, ticks: grid, values: (u, splits) => splits.map((s) => { const at = new Date(s * 1000); return long && at.getHours() === 0 ? dayTick.format(at) : hourTick.format(at); }), space: 60, size: 26 },
        { stroke: dim, font, grid, ticks: grid, size: 58, space: 28, values: (u, splits) => splits.map((v) => said(v, spec.unit)) },
      ],
      series: [
        { label: document.body.dataset.time, value: (u, v) => (v == null ? "" : dayHourTick.format(new Date(v * 1000))) },
        ...spec.lines.map((line) => ({
          label: line.label, stroke: colour(line.colour), width: 1.5, spanGaps: false,
          fill: line.style === "area" ? `${colour(line.colour)}22` : undefined,
          paths: line.style === "step" ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: true, size: 5, filter: () => alone(line.values) },
          value: (u, v) => said(v, spec.unit),
        })),
      ],
    };
    const plot = new uPlot(options, [spec.x, ...spec.lines.map((line) => line.values)], element);
    const last = Math.max(...spec.lines.map((line) => line.values.findLastIndex((v) => v != null)));
    const settle = () => { if (plot.cursor.idx == null && last >= 0) plot.setLegend({ idx: last }, false); };
    element.addEventListener("mouseleave", () => setTimeout(settle));
    setTimeout(settle);
    plots.set(element, plot);
    const seen = (spec.marks || []).filter((mark) => mark.x >= span[0] && mark.x <= span[1]).slice(0, 4);
    if (seen.length && element.parentElement) {
      const list = document.createElement("ul");
      list.className = "marks";
      for (const mark of seen) {
        const item = document.createElement("li");
        item.textContent = `┊ ${dayHourTick.format(new Date(mark.x * 1000))} ${mark.label}`;
        list.append(item);
      }
      element.parentElement.append(list);
    }
  }

  // ---- the heatmap of latencies
  function drawHeat(element) {
    const spec = JSON.parse(element.dataset.heat);
    const canvas = element.querySelector("canvas");
    const wide = element.clientWidth, high = 196, left = 58, bottom = 20, ratio = devicePixelRatio || 1;
    canvas.width = wide * ratio; canvas.height = high * ratio;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    const columns = spec.cells.length, rows = spec.bands.length + 1;
    const cw = (wide - left) / columns, ch = (high - bottom) / rows;
    const most = Math.max(1, ...spec.cells.flat());
    ctx.fillStyle = colour("soft"); ctx.fillRect(left, 0, wide - left, high - bottom);
    const ink = [colour("green"), colour("green"), colour("blue"), colour("blue"), colour("violet"), colour("amber"), colour("amber"), colour("red"), colour("red")];
    spec.cells.forEach((cell, c) => cell.forEach((count, r) => {
      if (!count) return;
      ctx.globalAlpha = 0.15 + 0.85 * (Math.log1p(count) / Math.log1p(most));
      ctx.fillStyle = ink[r];
      ctx.fillRect(left + c * cw, high - bottom - (r + 1) * ch, Math.max(1, cw - 0.5), ch - 1);
    }));
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour("dim");
    ctx.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    spec.bands.forEach((bound, r) => { if (r % 2 === 0) ctx.fillText(said(bound, "s"), left - 6, high - bottom - (r + 1) * ch); });
    ctx.textAlign = "center"; ctx.textBaseline = "bottom";
    const long = columns * spec.step > 2 * 86400;
    for (let c = 0; c < columns; c += Math.max(1, Math.ceil(columns / Math.max(2, Math.floor(wide / 110))))) {
      const at = new Date(spec.x[c] * 1000);
      ctx.fillText((long ? dayTick : hourTick).format(at), Math.min(wide - 16, Math.max(left + 16, left + c * cw)), high - 2);
    }
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const c = Math.floor((event.clientX - box.left - left) / cw), r = Math.floor((high - bottom - (event.clientY - box.top)) / ch);
      return c >= 0 && c < columns && r >= 0 && r < rows ? [c, r] : null;
    };
    canvas.style.cursor = spec.links.length ? "pointer" : "default";
    canvas.onclick = (event) => { const at = place(event); if (at && spec.links[at[0]]) location.href = `${spec.links[at[0]]}&band=${at[1]}`; };
    canvas.onmousemove = (event) => {
      let tip = element.querySelector(".tip");
      const at = place(event);
      if (!at) { if (tip) tip.remove(); return; }
      if (!tip) { tip = document.createElement("div"); tip.className = "tip"; element.append(tip); }
      const [c, r] = at;
      const low = r ? said(spec.bands[r - 1], "s") : "0", top = r < spec.bands.length ? said(spec.bands[r], "s") : "∞";
      tip.textContent = `${dayHourTick.format(new Date(spec.x[c] * 1000))} · ${low} – ${top} · ${said(spec.cells[c][r], "count")}`;
      tip.style.left = `${Math.min(event.offsetX + 12, wide - tip.clientWidth - 4)}px`;
      tip.style.top = `${Math.max(0, event.offsetY - 28)}px`;
    };
    canvas.onmouseleave = () => { const tip = element.querySelector(".tip"); if (tip) tip.remove(); };
  }

  function draw(within) {
    for (const [element, plot] of plots) if (!element.isConnected) { plot.destroy(); plots.delete(element); }
    for (const element of within.querySelectorAll("[data-chart]")) if (!plots.has(element)) drawChart(element);
    for (const element of within.querySelectorAll("[data-heat]")) drawHeat(element);
  }

  function drawAnew() {
    for (const [element, plot] of plots) { plot.destroy(); element.replaceChildren(); const list = element.parentElement && element.parentElement.querySelector(".marks"); if (list) list.remove(); }
    plots.clear();
    draw(document);
  }

  // ---- asking again
  const isChanged = (field) => {
    if (field.type === "hidden") return false;
    if (field.type === "checkbox") return field.checked !== field.defaultChecked;
    if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
    return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
  };
  const isBusy = () => {
    const at = document.activeElement;
    const isTyping = at && at.closest("main") && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
    return isTyping || String(getSelection()).length > 0 || [...document.querySelectorAll("main input, main select")].some(isChanged);
  };
  function ask() {
    const live = document.querySelector("#live[hx-get]");
    if (live && !document.hidden && !paused && !isBusy()) document.body.dispatchEvent(new CustomEvent("tick"));
  }
  function stale(is) {
    const note = document.querySelector(".fresh .stale");
    if (!note) return;
    note.hidden = !is;
    note.textContent = is ? document.body.dataset.notUpdated : "";
  }
  function showPause() {
    for (const button of document.querySelectorAll("[data-pause]")) {
      button.textContent = paused ? button.dataset.resumeWord : button.dataset.pauseWord;
      button.setAttribute("aria-pressed", String(paused));
    }
  }
  let open = [], focused = null, scrolled = [];
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("main details[open][id]")].map((one) => one.id);
    scrolled = [...document.querySelectorAll("main .scroll")].map((one) => one.scrollLeft);
    const at = document.activeElement;
    const all = [...document.querySelectorAll("main a, main button, main summary, main [tabindex]")];
    focused = at && at.closest("main") && at.id !== "live" ? all.indexOf(at) : -1;
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) { const one = document.getElementById(id); if (one) one.open = true; }
    document.querySelectorAll("main .scroll").forEach((one, n) => { one.scrollLeft = scrolled[n] || 0; });
    start();
    if (focused >= 0) {
      const all = [...document.querySelectorAll("main a, main button, main summary, main [tabindex]")];
      if (all[focused]) all[focused].focus({ preventScroll: true });
    }
    stale(false);
  });
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) document.addEventListener(name, () => stale(true));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  setInterval(ask, EVERY_MS);

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button");
    if (!button) return;
    if ("copy" in button.dataset && navigator.clipboard) {
      const word = button.textContent;
      navigator.clipboard.writeText(button.dataset.copy).then(() => {
        button.textContent = button.dataset.done;
        setTimeout(() => { button.textContent = word; }, 1500);
      });
    }
    if ("pause" in button.dataset) {
      paused = !paused;
      sessionStorage.setItem("dbpilot-paused", paused ? "1" : "0");
      showPause();
      ask();
    }
  });

  function start() { showTimes(document); draw(document); showPause(); }
  let wide = innerWidth, waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => { if (innerWidth !== wide) { wide = innerWidth; drawAnew(); } }, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
  start();
  document.documentElement.dataset.ready = "1";
})();
