// Pictures: maps of numbers from -1 to 1 as bytes (0 to 254; 255 is not finite), points, weights, losses.

const dark = matchMedia("(prefers-color-scheme: dark)");

// From negative to positive through the middle: told apart with every kind of colour vision.
const ENDS = {
  light: { negative: [198, 81, 0], middle: [247, 247, 247], positive: [0, 114, 178] },
  dark: { negative: [240, 150, 75], middle: [34, 40, 47], positive: [93, 180, 234] },
};
const palette = new Uint8ClampedArray(4 * 256); // red, green, blue, alpha of each byte
const pixels = new Uint32Array(palette.buffer); // the same, a pixel each
const inks = new Map(); // colours of the style sheet that have been asked for

function mixed(from, to, part) {
  return from.map((value, place) => Math.round(value + (to[place] - value) * part));
}

function choosePalette() {
  const { negative, middle, positive } = ENDS[dark.matches ? "dark" : "light"];
  inks.clear();
  for (let shade = 0; shade < 255; shade++) {
    const ink = shade < 127 ? mixed(negative, middle, shade / 127) : mixed(middle, positive, (shade - 127) / 127);
    palette.set([...ink, 255], 4 * shade);
  }
  palette.set([128, 128, 128, 255], 4 * 255);
}
choosePalette();

export function whenThemeChanges(redraw) {
  dark.addEventListener("change", () => {
    choosePalette();
    redraw();
  });
}

export function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function colour(value, alpha = 1) {
  const place = 4 * Math.round((Math.max(-1, Math.min(1, value)) + 1) * 127);
  const [red, green, blue] = palette.subarray(place, place + 3);
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

// A colour of the style sheet; asked for of hundreds of points and lines in a frame, so it is kept.
function styled(name) {
  if (!inks.has(name)) inks.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return inks.get(name);
}

// A square picture of bytes in a canvas of as many pixels.
export function drawMap(canvas, bytes, discrete = false) {
  const across = Math.round(Math.sqrt(bytes.length));
  if (canvas.width !== across) canvas.width = canvas.height = across;
  const context = canvas.getContext("2d");
  const image = context.createImageData(across, across);
  const drawn = new Uint32Array(image.data.buffer);
  for (let place = 0; place < bytes.length; place++) {
    const byte = bytes[place];
    drawn[place] = pixels[discrete && byte < 255 ? (byte < 127 ? 0 : 254) : byte];
  }
  context.putImageData(image, 0, 0);
}

export function drawScale(canvas) {
  const context = canvas.getContext("2d");
  for (let shade = 0; shade < 255; shade++) {
    context.fillStyle = colour(shade / 127 - 1);
    context.fillRect(shade, 0, 1, 1);
  }
}

// A canvas with as many pixels as the screen has for it, in units of CSS pixels.
function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// Marks of points: discs above 0, triangles below, so that they survive without colours; hollow ones test.
function mark(context, x, y, size, value, hollow) {
  context.beginPath();
  if (value >= 0) {
    context.arc(x, y, size, 0, 2 * Math.PI);
  } else {
    context.moveTo(x, y - 1.2 * size);
    context.lineTo(x + 1.1 * size, y + 0.9 * size);
    context.lineTo(x - 1.1 * size, y + 0.9 * size);
    context.closePath();
  }
  context.fillStyle = hollow ? styled("--card") : colour(value);
  context.fill();
  context.strokeStyle = hollow ? colour(value) : styled("--card");
  context.lineWidth = hollow ? 1.5 : 1;
  context.stroke();
}

function drawPoints(context, width, side, points, size, hollowFrom) {
  points.forEach(([x1, x2, value], place) => {
    const [x, y] = [((x1 / side + 1) / 2) * width, ((1 - x2 / side) / 2) * width];
    mark(context, x, y, size, value, place >= hollowFrom);
  });
}

const scratch = document.createElement("canvas");

export function drawSurface(canvas, bytes, { side, points, trained, showTest, discrete }) {
  const width = canvas.clientWidth;
  const context = sharp(canvas, width, width);
  drawMap(scratch, bytes, discrete);
  context.imageSmoothingEnabled = !discrete;
  context.drawImage(scratch, 0, 0, width, width);
  drawPoints(context, width, side, showTest ? points : points.slice(0, trained), 3.2, trained);
}

export function drawPreview(canvas, side, points) {
  const context = sharp(canvas, 44, 44);
  drawPoints(context, 44, side, points, 1.8, Infinity);
}

// Lines from each column of boxes to the next: `layers` holds a matrix [from][to] for each pair.
export function drawLines(canvas, box, columns, layers) {
  const context = sharp(canvas, box.width, box.height);
  canvas.style.width = `${box.width}px`;
  canvas.style.height = `${box.height}px`;
  layers.forEach((weights, layer) => {
    weights.forEach((row, from) => {
      row.forEach((weight, to) => {
        const start = columns[layer][from];
        const end = columns[layer + 1][to];
        if (!start || !end) return;
        const middle = (start.right + end.left) / 2;
        context.beginPath();
        context.moveTo(start.right, start.middle);
        context.bezierCurveTo(middle, start.middle, middle, end.middle, end.left, end.middle);
        context.strokeStyle = weight < 0 ? styled("--negative") : styled("--positive");
        context.globalAlpha = Math.min(0.9, 0.2 + Math.abs(weight) / 2);
        context.lineWidth = Math.max(0.5, Math.min(7, 2.5 * Math.abs(weight)));
        context.stroke();
      });
    });
  });
  context.globalAlpha = 1;
}

// Losses by epoch: [epoch, training, test], null where one is not finite.
export function drawChart(canvas, losses) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const context = sharp(canvas, width, height);
  const found = losses.flatMap(([, train, test]) => [train, test]).filter((loss) => loss !== null);
  const top = Math.max(...found, 1e-9);
  const last = Math.max(losses.at(-1)?.[0] ?? 1, 1);
  context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
  context.strokeStyle = styled("--line");
  context.lineWidth = 1;
  context.strokeRect(0.5, 0.5, width - 1, height - 1);
  [["--soft", 1, [5, 3]], ["--text", 2, []]].forEach(([name, place, dashes]) => {
    context.beginPath();
    losses.forEach((loss) => {
      if (loss[place] === null) return;
      context.lineTo(2 + (loss[0] / last) * (width - 4), height - 3 - (loss[place] / top) * (height - 18));
    });
    context.setLineDash(dashes);
    context.lineWidth = 2;
    context.strokeStyle = styled(name);
    context.stroke();
  });
  context.setLineDash([]);
  context.fillStyle = styled("--soft");
  context.textAlign = "left";
  context.fillText(found.length ? top.toPrecision(3) : "", 5, 13);
  context.textAlign = "right";
  context.fillText(`epoch ${losses.at(-1)?.[0] ?? 0}`, width - 5, 13);
}
