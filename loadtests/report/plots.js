// What may a reader do with the plots?  Theme, legends, range; shared by the report and the live page.  Asks no server for anything.
"use strict";
const Tickstorm = (() => {
  const root = document.documentElement;
  const colour = (role) => getComputedStyle(root).getPropertyValue("--c-" + role).trim();

  const digits = (v) => {
    const size = Math.abs(v);
    const places = v === 0 ? 0 : size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0;
    return v.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  };
  const UNITS = {
    count: (v) => (Number.isInteger(v) ? v.toLocaleString("en-US") : digits(v)),
    ms: (v) => (v !== 0 && Math.abs(v) < 1 ? digits(v * 1000) + " µs" : digits(v) + " ms"),
    s: (v) => v.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 2 }) + " s",
    mb: (v) => digits(v) + " MB",
    percent: (v) => digits(v) + " %",
    per_s: (v) => digits(v) + " /s",
  };
  const show = (value, unit) => (UNITS[unit] || UNITS.count)(value);

  const models = function* () {
    if (typeof Bokeh === "undefined") return;
    for (const doc of Bokeh.documents) {
      const seen = new Set();
      for (const top of doc.roots()) {
        for (const model of [top, ...top.references()]) {
          if (!seen.has(model)) { seen.add(model); yield model; }
        }
      }
    }
  };
  const named = (name) => [...models()].find((m) => m.name === name);
  const tagged = (tag) => [...models()].filter((m) => (m.tags || []).includes(tag));

  const PAINT = {
    axis: () => ({
      axis_label_text_color: colour("muted"), major_label_text_color: colour("muted"),
      axis_line_color: colour("rule"), major_tick_line_color: colour("rule"),
    }),
    grid: () => ({ grid_line_color: colour("rule") }),
    range: () => ({ fill_color: colour("1"), fill_alpha: 0.15, line_color: colour("1") }),
    stroke: (role) => ({ line_color: colour(role) }),
    text: (role) => ({ text_color: colour(role) }),
    fill: (role) => ({ fill_color: colour(role) }),
  };
  const paint = () => {
    for (const model of models()) {
      const wanted = {};
      for (const tag of model.tags || []) {
        const [kind, role] = String(tag).split(":");
        if (PAINT[kind]) Object.assign(wanted, PAINT[kind](role));
      }
      if (Object.keys(wanted).length) model.setv(wanted);
    }
  };

  const dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const theme = (name) => {
    root.dataset.theme = name || chosen || (dark.matches ? "dark" : "light");
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
      button.setAttribute("aria-label", "Switch to the " + button.textContent.toLowerCase() + " theme");
    }
    paint();
  };
  theme();
  dark.addEventListener("change", () => theme());
  addEventListener("beforeprint", () => theme("light"));
  addEventListener("afterprint", () => theme());

  const time = () => named("time");
  let whole = null;
  const range = (start, end) => {
    const span = time();
    if (!span || !whole) return;
    const width = Math.min(Math.max(end - start, 0.2), whole[1] - whole[0]);
    const from = Math.min(Math.max(start, whole[0]), whole[1] - width);
    span.setv({ start: from, end: from + width });
  };
  /** The range that is shown, null where it is the whole run. */
  const shown = () => {
    const span = time();
    return span && whole && (span.start !== whole[0] || span.end !== whole[1]) ? [span.start, span.end] : null;
  };
  const onrange = (tell) => {
    const span = time();
    if (span) for (const end of ["start", "end"]) span.properties[end].change.connect(tell);
  };
  const around = (factor) => {
    const { start, end } = time();
    const middle = (start + end) / 2, half = ((end - start) / 2) * factor;
    range(middle - half, middle + half);
  };
  const shift = (part) => {
    const { start, end } = time();
    range(start + (end - start) * part, end + (end - start) * part);
  };
  const gesture = (tag, slot, on) => {
    for (const model of models()) {
      if (model.type !== "Figure") continue;
      const tool = model.toolbar.tools.find((t) => (t.tags || []).includes(tag));
      if (tool) tool.active = on;
    }
  };
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const ACTIONS = {
    in: () => around(0.5), out: () => around(2), earlier: () => shift(-0.25), later: () => shift(0.25),
    all: () => whole && range(...whole),
    wheel: (button) => { press(button, !pressed(button)); gesture("wheel", "scroll", pressed(button)); },
    drag: (button) => {
      press(button, !pressed(button));
      gesture("drag-zoom", "drag", !pressed(button));
      gesture("drag-pan", "drag", pressed(button));
    },
    log: (button) => {
      press(button, !pressed(button));
      for (const [id, on] of [["panel-latency", !pressed(button)], ["panel-latency-log", pressed(button)]]) {
        const panel = document.getElementById(id);
        if (panel) panel.hidden = !on;
      }
    },
    zoom: (button) => {
      range(Number(button.dataset.from) - 5, Number(button.dataset.to) + 15);
      document.getElementById("timeline").scrollIntoView();
    },
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "theme") {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      theme();
    } else if (button.dataset.renderer) {
      const renderer = named(button.dataset.renderer);
      if (!renderer) return;
      renderer.visible = !renderer.visible;
      press(button, renderer.visible);
    } else if (ACTIONS[button.dataset.action]) {
      ACTIONS[button.dataset.action](button);
    }
  });

  const draw = async () => {
    theme();
    const holder = document.getElementById("plots");
    if (!holder) return;
    const item = JSON.parse(holder.textContent);
    if (!Object.keys(item.roots).length) return;
    await Bokeh.embed.embed_items({ plots: item.document }, [{ docid: "plots", roots: item.roots, root_ids: Object.keys(item.roots) }]);
    const span = time();
    if (span) whole = [span.start, span.end];
    gesture("drag-zoom", "drag", true);
    paint();
    root.dataset.drawn = "true";
  };
  return { show, paint, theme, named, tagged, draw, range, shown, onrange };
})();
addEventListener("DOMContentLoaded", () => Tickstorm.draw());
