// The page: settings, which stand in its address; frames, which it asks the server for one after the other.

import { choice, made, offered, problems, seed, slider } from "./controls.js";
import {
  bytesOf, drawChart, drawLines, drawMap, drawPreview, drawScale, drawSurface, whenThemeChanges,
} from "./drawing.js";

const $ = (id) => document.getElementById(id);
const tab = crypto.randomUUID();
const FRAME_SECONDS = 0.02; // of training for a frame, at most: thirty frames a second are drawn
const MOST_LOSSES = 2000;

let table; // the rows of settings
let kinds; // which problems are regressions, which losses fit
let values; // what is set
let seen; // the last frame, and what stays
let losses = [];
let running = false;
let asking = null; // the request that is under way
let again = false; // whether something has changed since
let watched = null; // [layer, neuron] that is shown in place of the output
const refreshers = [];

// -------------------------------------------------------------------------------------------------------------- server

async function post(name, message) {
  const answer = await fetch(name, { method: "POST", body: JSON.stringify(message), headers: { "Content-Type": "application/json" } });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function complain(text) {
  $("alert").hidden = !text;
  $("alert").textContent = text ?? "";
}

// One frame at a time: who asks while one is under way gets the next.
async function ask(message = {}) {
  if (asking) {
    again = true;
    return asking;
  }
  asking = (async () => {
    try {
      const frame = await post("frame", { tab, settings: values, whole: !seen, ...message });
      if (frame.points || message.restart) losses = [];
      seen = { ...seen, ...frame };
      if (losses.at(-1)?.[0] !== frame.epoch) losses.push([frame.epoch, frame.train_loss, frame.test_loss]);
      if (losses.length > MOST_LOSSES) losses = losses.filter((_, place) => place % 2 === 0);
      complain(frame.stopped);
      if (frame.stopped) pause();
      draw();
    } catch (error) {
      pause();
      complain(error instanceof TypeError ? "The server does not answer: has fastnn playground ended?" : error.message);
    } finally {
      asking = null;
    }
  })();
  await asking;
  if (again && !running) {
    again = false;
    await ask();
  }
}

// ------------------------------------------------------------------------------------------------------------ settings

function address() {
  const changed = Object.entries(values).filter(([name, value]) => String(value) !== String(table[name].default));
  return changed.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`).join("&");
}

function set(name, value) {
  values = { ...values, [name]: value };
  if (name === "problem" && !fits(values.loss)) values.loss = Object.keys(kinds.losses).find(fits);
  history.replaceState(null, "", `#${address()}`);
  refreshers.forEach((refresh) => refresh());
  if (["layers", "features"].includes(name)) makeNetwork();
  ask();
}

const isRegression = () => kinds.regression.includes(values.problem);
const fits = (loss) => kinds.losses[loss].includes(isRegression());

function addControls(previews) {
  const put = (place, make, name, ...more) => {
    const { field, refresh } = make(name, table[name], () => values[name], (value) => set(name, value), ...more);
    $(place).append(field);
    refreshers.push(name === "loss" ? () => refresh(fits) : () => refresh());
  };
  const chosen = problems(table.problem, kinds.regression, () => values.problem, (name) => set("problem", name), (name, canvas) =>
    drawPreview(canvas, previews.side, previews.points[name]));
  $("data").append(chosen.field);
  refreshers.push(chosen.refresh);
  for (const name of ["noise", "train_share", "batch"]) put("data", slider, name);
  put("data", seed, "seed");
  put("training", offered, "rate");
  for (const name of ["activation", "loss", "optimizer", "penalty"]) put("training", choice, name);
  put("training", offered, "penalty_rate");
  put("training", slider, "dropout");
}

// ------------------------------------------------------------------------------------------------------------- network

function layersWith(change) {
  const widths = [...values.layers];
  change(widths);
  set("layers", widths);
}

// The button that was pressed keeps the focus, the other one gets it where there is no more to press.
function focusEither(prefix, [pressed, other], suffix = "") {
  const button = $(`${prefix}${pressed}${suffix}`);
  (button.disabled ? $(`${prefix}${other}${suffix}`) : button).focus();
}

function counter(layer) {
  const units = values.layers[layer];
  const button = (text, by, label, disabled) => made("button", {
    type: "button", "aria-label": label, disabled, id: `layer-${layer}-${by > 0 ? "more" : "fewer"}`,
    on: { click: () => { layersWith((widths) => (widths[layer] += by)); focusEither(`layer-${layer}-`, by > 0 ? ["more", "fewer"] : ["fewer", "more"]); } },
  }, text);
  return made("div", { class: "count", role: "group", "aria-label": `Neurons of layer ${layer + 1}` },
    button("-", -1, `One neuron fewer in layer ${layer + 1}`, units <= 1),
    made("output", { id: `layer-${layer}` }, String(units)),
    button("+", 1, `One neuron more in layer ${layer + 1}`, units >= table.layers.most_neurons));
}

function featureColumn() {
  const boxes = Object.keys(table.features.choices).map((name) => {
    const input = made("input", {
      type: "checkbox", id: `feature-${name}`, checked: values.features.includes(name),
      on: { change: () => toggleFeature(name, input) },
    });
    return made("label", { class: "feature", "data-feature": name }, input, name, made("canvas", { "aria-hidden": "true" }));
  });
  return made("div", { class: "column", role: "group", "aria-label": "Features" }, made("div", { class: "title" }, "Features"), ...boxes);
}

function toggleFeature(name, input) {
  const chosen = Object.keys(table.features.choices).filter((each) => (each === name ? input.checked : values.features.includes(each)));
  if (chosen.length === 0) {
    input.checked = true;
    complain("The network needs at least one feature.");
    return;
  }
  set("features", chosen);
  $(`feature-${name}`).focus();
}

function makeNetwork() {
  watched = null;
  const hidden = values.layers.map((units, layer) => {
    const neurons = Array.from({ length: units }, (_, neuron) => made("button", {
      type: "button", class: "neuron", id: `neuron-${layer}-${neuron}`, "aria-label": `Layer ${layer + 1}, neuron ${neuron + 1}`,
      on: { mouseenter: () => watch(layer, neuron), mouseleave: () => watch(), focus: () => watch(layer, neuron), blur: () => watch() },
    }, made("canvas", { "aria-hidden": "true" })));
    return made("div", { class: "column" }, made("div", { class: "title" }, `Layer ${layer + 1}`, counter(layer)), ...neurons);
  });
  const output = made("div", { class: "column" }, made("div", { class: "title" }, "Output"), made("div", { class: "neuron output" }, made("canvas", { "aria-hidden": "true" })));
  $("columns").replaceChildren(featureColumn(), ...hidden, output);
  const count = values.layers.length;
  $("layer-count").textContent = `${count} hidden layer${count === 1 ? "" : "s"}`;
  $("fewer-layers").disabled = count === 0;
  $("more-layers").disabled = count >= table.layers.most_layers;
}

function watch(layer, neuron) {
  watched = layer === undefined ? null : [layer, neuron];
  describeWatched();
  draw();
}

// What leads to a neuron, in words.
function describeWatched() {
  const text = watched && seen?.weights ? explained(...watched) : "";
  $("neuron").textContent = text;
  if (watched) $(`neuron-${watched.join("-")}`).setAttribute("aria-label", text);
}

function explained(layer, neuron) {
  const [kernel, bias] = [seen.weights[2 * layer], seen.weights[2 * layer + 1]];
  const from = layer === 0 ? values.features : kernel.map((_, place) => `neuron ${place + 1}`);
  const weights = kernel.map((row, place) => `${from[place]} ${row[neuron].toFixed(2)}`).join(", ");
  return `Layer ${layer + 1}, neuron ${neuron + 1}: bias ${bias[neuron].toFixed(2)}; weights ${weights}`;
}

function boxesOf(selector, root, origin) {
  return [...root.querySelectorAll(selector)].map((canvas) => {
    const box = canvas.getBoundingClientRect();
    return { left: box.left - origin.left, right: box.right - origin.left, middle: (box.top + box.bottom) / 2 - origin.top };
  });
}

function drawNetwork() {
  const network = $("columns");
  const origin = network.getBoundingClientRect();
  const [features, ...others] = network.children;
  for (const label of features.querySelectorAll(".feature")) drawMap(label.querySelector("canvas"), bytesOf(seen.features[label.dataset.feature]));
  seen.neurons.forEach((text, layer) => {
    const bytes = bytesOf(text);
    const canvases = others[layer]?.querySelectorAll(".neuron canvas") ?? [];
    canvases.forEach((canvas, place) => drawMap(canvas, bytes.subarray((place * bytes.length) / canvases.length, ((place + 1) * bytes.length) / canvases.length)));
  });
  const surface = bytesOf(seen.surface);
  drawMap(others.at(-1).querySelector("canvas"), surface, $("discrete").checked);
  const columns = [boxesOf(".feature:has(input:checked) canvas", features, origin), ...others.map((column) => boxesOf(".neuron canvas", column, origin))];
  const size = { width: network.scrollWidth, height: network.scrollHeight };
  drawLines($("lines"), size, columns, seen.weights.filter((_, place) => place % 2 === 0));
}

// ------------------------------------------------------------------------------------------------------------ drawing

const shown = (loss) => (loss === null ? "not finite" : loss < 1e-3 && loss > 0 ? loss.toExponential(2) : loss.toFixed(4));

// Whether the frame is one of the network that the page shows: settings may be ahead of it.
function matches() {
  return seen?.weights && seen.weights.length === 2 * values.layers.length + 2
    && seen.weights[0].length === values.features.length
    && values.layers.every((units, layer) => seen.weights[2 * layer + 1].length === units);
}

function draw() {
  if (!matches()) return;
  $("epoch").textContent = seen.epoch.toLocaleString("en");
  $("train-loss").textContent = shown(seen.train_loss);
  $("test-loss").textContent = shown(seen.test_loss);
  drawNetwork();
  drawChart($("chart"), losses);
  drawScale($("scale"));
  let picture = bytesOf(seen.surface);
  if (watched) {
    const bytes = bytesOf(seen.neurons[watched[0]]);
    const each = bytes.length / values.layers[watched[0]];
    picture = bytes.subarray(watched[1] * each, (watched[1] + 1) * each);
  }
  drawSurface($("surface"), picture, { ...seen, showTest: $("show-test").checked, discrete: $("discrete").checked });
  const what = watched ? `Layer ${watched[0] + 1}, neuron ${watched[1] + 1}` : "The output";
  $("caption").textContent = `${what} over x1 (across) and x2 (up), both from -6 to 6`;
  $("plus").textContent = isRegression() ? "● from 0 to 1" : "● label 1";
  $("minus").textContent = isRegression() ? "▲ below 0" : "▲ label -1";
}

// ------------------------------------------------------------------------------------------------------------- running

function said(text) {
  $("status").textContent = text;
}

const summary = () => `Epoch ${seen.epoch}, test loss ${shown(seen.test_loss)}, training loss ${shown(seen.train_loss)}`;

async function play() {
  running = true;
  $("play").textContent = "Pause";
  said("Training");
  let [since, from] = [performance.now(), seen?.epoch ?? 0];
  while (running) {
    await ask({ epochs: Number($("speed").value), seconds: FRAME_SECONDS });
    await new Promise(requestAnimationFrame);
    const passed = (performance.now() - since) / 1000;
    if (passed > 0.5) {
      $("pace").textContent = Math.max(0, Math.round((seen.epoch - from) / passed)).toLocaleString("en");
      [since, from] = [performance.now(), seen.epoch];
    }
  }
  describeWatched();
}

function pause() {
  if (!running) return;
  running = false;
  $("play").textContent = "Play";
  said(`Paused. ${summary()}`);
}

async function step() {
  pause();
  await asking;
  await ask({ epochs: 1 });
  describeWatched();
  said(summary());
}

async function reset() {
  await asking;
  await ask({ restart: true });
  said("Begun anew");
}

async function showCode() {
  const { script } = await post("script", { settings: values, epochs: Math.max(seen?.epoch ?? 0, 100) });
  $("script-text").textContent = script;
  $("script").showModal();
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    said(`${what} copied`);
  } catch {
    window.prompt("Copy", text);
  }
}

function listen() {
  $("play").addEventListener("click", () => (running ? pause() : play()));
  $("step").addEventListener("click", step);
  $("reset").addEventListener("click", reset);
  $("code").addEventListener("click", showCode);
  $("copy-script").addEventListener("click", () => copy($("script-text").textContent, "The code is"));
  $("share").addEventListener("click", () => copy(location.href, "The address is"));
  const layers = (pressed, other, change) => $(`${pressed}-layers`).addEventListener("click", () => {
    layersWith(change);
    focusEither("", [pressed, other], "-layers");
  });
  layers("more", "fewer", (widths) => widths.push(widths.at(-1) ?? 4));
  layers("fewer", "more", (widths) => widths.pop());
  for (const id of ["show-test", "discrete"]) $(id).addEventListener("change", draw);
  $("training").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, button, dialog, pre, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = { " ": () => $("play").click(), ArrowRight: step, r: reset }[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
  new ResizeObserver(draw).observe($("network"));
  whenThemeChanges(draw);
  addEventListener("hashchange", () => location.reload());
  addEventListener("pagehide", () => navigator.sendBeacon("close", JSON.stringify({ tab })));
  addEventListener("pageshow", (event) => event.persisted && ask({ whole: true }));
}

async function begin() {
  let described;
  let refused = null;
  try {
    described = await post("described", { address: location.hash });
  } catch (error) {
    refused = `The address sets what cannot be: ${error.message}. The page begins as it does without.`;
    history.replaceState(null, "", "#");
    described = await post("described", {});
  }
  table = described.settings;
  kinds = { regression: described.regression, losses: described.losses };
  values = described.values;
  addControls(described.previews);
  listen();
  refreshers.forEach((refresh) => refresh());
  makeNetwork();
  await ask();
  if (refused) complain(refused);
  document.body.dataset.ready = "true";
}

begin();
