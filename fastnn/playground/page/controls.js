// Controls, made of the table of settings that the server describes.

function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
export { made };

export const spelled = (value) => String(Number(Number(value).toPrecision(6)));

// A select of names with titles; `fits` tells which of them can be chosen now.
export function choice(name, row, get, set) {
  const options = Object.entries(row.choices).map(([value, title]) => made("option", { value }, title));
  const select = made("select", { id: name, title: row.help, on: { change: () => set(select.value) } }, ...options);
  const field = made("div", { class: "field" }, made("label", { for: name }, row.title), select);
  const refresh = (fits = () => true) => {
    options.forEach((option) => (option.hidden = option.disabled = !fits(option.value)));
    select.value = get();
  };
  return { field, refresh };
}

// A select of the numbers that are offered, and of the one that an address may have brought.
export function offered(name, row, get, set) {
  const select = made("select", { id: name, title: row.help, on: { change: () => set(Number(select.value)) } });
  const field = made("div", { class: "field" }, made("label", { for: name }, row.title), select);
  const refresh = () => {
    const values = [...new Set([...row.offered, get()])].sort((a, b) => a - b);
    select.replaceChildren(...values.map((value) => made("option", { value }, spelled(value))));
    select.value = get();
  };
  return { field, refresh };
}

export function slider(name, row, get, set) {
  const said = made("output", { for: name });
  const input = made("input", {
    type: "range", id: name, min: row.minimum, max: row.maximum, step: row.step, title: row.help,
    on: { input: () => set(Number(input.value)) },
  });
  const label = made("label", { for: name }, row.title);
  const field = made("div", { class: "field slider" }, label, said, input);
  const refresh = () => {
    input.value = get();
    said.textContent = `${get()}${row.unit ? ` ${row.unit}` : ""}`;
    input.setAttribute("aria-valuetext", said.textContent);
  };
  return { field, refresh };
}

export function seed(name, row, get, set) {
  const input = made("input", {
    type: "number", id: name, min: 0, max: row.maximum, step: 1, title: row.help,
    on: { change: () => (input.validity.valid && input.value !== "" ? set(Number(input.value)) : refresh()) },
  });
  const another = made("button", { type: "button", on: { click: () => set(Math.floor(Math.random() * 10000)) } }, "Another");
  const field = made("div", { class: "field" }, made("label", { for: name }, row.title), made("div", { class: "seed" }, input, another));
  const refresh = () => (input.value = get());
  return { field, refresh };
}

// Problems as pictures, those with labels and those with values in groups of their own.
export function problems(row, regression, get, set, preview) {
  const inputs = {};
  const group = (title, wanted) => {
    const radios = Object.entries(row.choices)
      .filter(([name]) => regression.includes(name) === wanted)
      .map(([name, text]) => {
        inputs[name] = made("input", { type: "radio", name: "problem", value: name, id: `problem-${name}`, on: { change: () => set(name) } });
        const canvas = made("canvas", { "aria-hidden": "true" });
        preview(name, canvas);
        return made("label", { class: "problem" }, inputs[name], canvas, text);
      });
    return made("fieldset", {}, made("legend", {}, title), made("div", { class: "problems" }, ...radios));
  };
  const field = made("div", { class: "field" }, group("Classification", false), group("Regression", true));
  const refresh = () => (inputs[get()].checked = true);
  return { field, refresh };
}
