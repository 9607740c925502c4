const times = unpacked(data.times, Float32Array);
const count = times.length;
const similarity = unpacked(data.similarity, Uint8Array);
const mel = unpacked(data.mel, Uint8Array);
const wave = unpacked(data.wave, Int8Array);

const picture = find("picture");
const marks = find("marks");
const field = picture.parentElement;
const tip = document.querySelector(".tip");
const audio = find("audio");

const [LEFT, RIGHT, GAP, AXIS] = [46, 6, 8, 34]; // px beside, between and below the parts
const [NEAR, LISTED] = [0.5, 6]; // seconds within which moments count as one in the list, and how many it has
const PALE = "--paper";
let size = { width: 1, height: 1, ratio: 1 };
let boxes = {}; // of the parts: waveform, log-mel, similarity
let chosen = -1;
let pointed = null; // seconds across, and down where that is in the similarity

/** The cosine of two moments. */
function cosine(one, other) {
  const [row, column] = one < other ? [one, other] : [other, one];
  return (similarity[row * count - (row * (row - 1)) / 2 + column - row] / data.steps) * 2 - 1;
}

const begin = (moment) => Math.max(0, data.first + moment * data.step);
const momentAt = (seconds) => Math.min(count - 1, Math.max(0, Math.floor((seconds - data.first) / data.step)));
const asText = (value) => value.toFixed(2).replace("-", "−");
const inWords = (seconds) => `${seconds.toFixed(data.step < 0.1 ? 2 : 1)} s`;

// Places on the screen.
const across = (seconds) => LEFT + (seconds / data.seconds) * boxes.wide;
const down = (seconds) => boxes.similarity + (seconds / data.seconds) * boxes.wide;

function fit() {
  const width = field.clientWidth;
  const wide = Math.max(1, width - LEFT - RIGHT);
  boxes = { wide, wave: 2, waveHigh: 56, mel: 58 + GAP, melHigh: Math.max(90, wide * 0.2) };
  boxes.similarity = boxes.mel + boxes.melHigh + GAP;
  size = { width, height: boxes.similarity + wide + AXIS, ratio: devicePixelRatio || 1 };
  field.style.height = `${size.height}px`;
  for (const canvas of [picture, marks]) {
    canvas.width = Math.round(size.width * size.ratio);
    canvas.height = Math.round(size.height * size.ratio);
  }
  draw();
  mark();
}

/** A picture of numbers from 0 to 1, given by column and row. */
function painted(width, height, valueAt) {
  const stops = [PALE, ...SCALE].map(parts);
  const palette = Uint32Array.from({ length: 256 }, (_, code) => {
    const [red, green, blue] = between(stops, code / 255);
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      pixels[row * width + column] = palette[Math.round(255 * Math.min(1, Math.max(0, valueAt(column, row))))];
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function draw() {
  const pen = picture.getContext("2d");
  pen.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  pen.clearRect(0, 0, size.width, size.height);

  pen.fillStyle = themeColour("--scale-4");
  const bars = wave.length / 2;
  const middle = boxes.wave + boxes.waveHigh / 2;
  for (let bar = 0; bar < bars; bar++) {
    const [low, high] = [wave[2 * bar], wave[2 * bar + 1]].map((one) => (one / 127) * (boxes.waveHigh / 2));
    pen.fillRect(LEFT + (bar / bars) * boxes.wide, middle - high, Math.max(0.6, boxes.wide / bars), Math.max(0.6, high - low));
  }

  const frames = mel.length / data.bands;
  const bandsDown = (column, row) => mel[column * data.bands + data.bands - 1 - row] / 255;
  place(pen, painted(frames, data.bands, bandsDown), -0.005, data.melStep * frames, boxes.mel, boxes.melHigh);

  const [low, high] = data.likeness;
  const likeness = painted(count, count, (column, row) => (cosine(row, column) - low) / (high - low));
  const wide = (count * data.step * boxes.wide) / data.seconds;
  place(pen, likeness, data.first, count * data.step, boxes.similarity, boxes.wide, down(data.first), wide);

  pen.fillStyle = themeColour("--quiet");
  pen.strokeStyle = themeColour("--rule");
  pen.font = "12px system-ui, sans-serif";
  for (const [top, tall] of [[boxes.mel, boxes.melHigh], [boxes.similarity, boxes.wide]]) {
    pen.strokeRect(LEFT - 0.5, top - 0.5, boxes.wide + 1, tall + 1);
  }
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  let above = boxes.mel + 4;
  pen.fillText("Hz", LEFT - 6, above);
  for (const [hertz, band] of data.ticks.toReversed()) {
    const y = boxes.mel + boxes.melHigh * (1 - band / data.bands);
    if (y < above + 12) continue;
    pen.fillText(hertz, LEFT - 6, y);
    above = y;
  }
  const bottom = boxes.similarity + boxes.wide;
  for (const seconds of ticks()) {
    pen.textAlign = "right";
    if (seconds) pen.fillText(String(seconds), LEFT - 6, down(seconds));
    pen.textAlign = "center";
    pen.fillText(String(seconds), across(seconds), bottom + 12);
    for (const top of [boxes.mel + boxes.melHigh, bottom]) pen.fillRect(across(seconds) - 0.5, top, 1, 4);
    pen.fillRect(LEFT - 4, down(seconds) - 0.5, 4, 1);
  }
  pen.fillText("seconds", LEFT + boxes.wide / 2, bottom + 27);
}

/** Draw a picture that begins and lasts some seconds into a part, and nothing of it beyond. */
function place(pen, image, first, lasts, top, tall, imageTop = top, imageTall = tall) {
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, top, boxes.wide, tall);
  pen.clip();
  const wide = (lasts / data.seconds) * boxes.wide;
  pen.imageSmoothingEnabled = image.width > wide;
  pen.drawImage(image, across(first), imageTop, wide, imageTall);
  pen.restore();
}

/** Round times, about one every 80 px. */
function ticks() {
  const least = (data.seconds * 80) / boxes.wide;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= least * 0.999);
  return Array.from({ length: Math.floor(data.seconds / step) + 1 }, (_, at) => Number((at * step).toPrecision(6)));
}

// Over the pictures: the play head, the chosen moment and what is like it, and where the pointer is.
function mark() {
  const pen = marks.getContext("2d");
  pen.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  pen.clearRect(0, 0, size.width, size.height);
  const bottom = boxes.similarity + boxes.wide;
  const line = (seconds, colour, width, dash = []) => {
    pen.setLineDash(dash);
    pen.lineWidth = width;
    pen.strokeStyle = themeColour(colour);
    pen.beginPath();
    pen.moveTo(across(seconds), boxes.wave);
    pen.lineTo(across(seconds), bottom);
    pen.moveTo(LEFT, down(seconds));
    pen.lineTo(LEFT + boxes.wide, down(seconds));
    pen.stroke();
  };
  if (chosen >= 0) {
    line(times[chosen], "--ink", 1, [4, 3]);
    pen.setLineDash([]);
    for (const other of alike(chosen)) {
      for (const [colour, width] of [["--paper", 4], ["--ink", 1.6]]) {
        pen.strokeStyle = themeColour(colour);
        pen.lineWidth = width;
        pen.beginPath();
        pen.arc(across(times[chosen]), down(times[other]), 5, 0, 2 * Math.PI);
        pen.moveTo(across(times[other]), boxes.mel);
        pen.lineTo(across(times[other]), boxes.mel + 9);
        pen.stroke();
      }
    }
  }
  if (audio.currentTime > 0 || !audio.paused) line(Math.min(audio.currentTime, data.seconds), "--accent", 1.5);
  tip.hidden = !pointed;
  if (!pointed) return;
  pen.setLineDash([]);
  pen.fillStyle = themeColour("--ink");
  pen.globalAlpha = 0.5;
  pen.fillRect(across(pointed.across) - 0.5, boxes.wave, 1, bottom - boxes.wave);
  if (pointed.down !== null) pen.fillRect(LEFT, down(pointed.down) - 0.5, boxes.wide, 1);
  pen.globalAlpha = 1;
  tip.textContent = words(pointed);
  const x = across(pointed.across);
  tip.style.left = `${x + 12 + tip.offsetWidth < size.width ? x + 12 : Math.max(0, x - 12 - tip.offsetWidth)}px`;
  tip.style.top = `${Math.max(0, pointed.y - tip.offsetHeight - 10)}px`;
}

/** What the tip says of a place: its time, and what is most like it, or how like two moments are. */
function words(place) {
  const one = momentAt(place.across);
  if (place.down !== null) {
    const other = momentAt(place.down);
    return `${inWords(times[one])} and ${inWords(times[other])}: ${asText(cosine(one, other))}`;
  }
  const [first] = alike(one);
  return first === undefined ? inWords(times[one]) : `${inWords(times[one])}, most like ${inWords(times[first])}`;
}

/** The moments that are most like one, each of them some time away from it and from the others. */
const known = new Map();
function alike(moment) {
  if (known.has(moment)) return known.get(moment);
  const order = Array.from({ length: count }, (_, other) => other).sort((a, b) => cosine(moment, b) - cosine(moment, a));
  const found = [moment];
  for (const other of order) {
    if (found.length > LISTED) break;
    if (found.every((one) => Math.abs(times[one] - times[other]) > Math.max(NEAR, data.step * 1.5))) found.push(other);
  }
  known.set(moment, found.slice(1));
  return found.slice(1);
}

function choose(moment) {
  chosen = moment;
  find("details").hidden = moment < 0;
  find("nothing").hidden = moment >= 0;
  if (moment >= 0) {
    find("time").textContent = inWords(times[moment]);
    find("similar").replaceChildren(...alike(moment).map((other) => entry(other, asText(cosine(moment, other)))));
    picture.setAttribute("aria-valuenow", times[moment].toFixed(2));
    picture.setAttribute("aria-valuetext", words({ across: times[moment], down: null }));
  }
  mark();
}

function entry(moment, text) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.moment = moment;
  button.textContent = inWords(times[moment]);
  item.append(button, text);
  return item;
}

function silence(text) {
  find("silent").textContent = text;
  find("silent").hidden = !text;
}

function play(moment) {
  const beyond = begin(moment) >= data.heard;
  silence(beyond ? `This page plays the first ${data.heard} s alone.` : "");
  if (beyond) return audio.pause();
  audio.currentTime = begin(moment);
  audio.play().catch(() => {}); // why not is told by its error
}

audio.addEventListener("error", () => silence("This browser does not play FLAC."));

let drawing = false;
function follow() {
  mark();
  drawing = !audio.paused;
  if (drawing) requestAnimationFrame(follow);
}
for (const event of ["play", "pause", "seeked", "timeupdate", "ended"]) {
  audio.addEventListener(event, () => {
    if (!drawing) follow();
  });
}

find("similar").addEventListener("click", (event) => {
  const button = event.target.closest("[data-moment]");
  if (!button) return;
  choose(Number(button.dataset.moment));
  play(chosen);
  find("similar").querySelector("button")?.focus({ preventScroll: true });
});

/** The times at a place on the screen; null beside the parts. */
function within(event) {
  const box = picture.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const seconds = ((x - LEFT) / boxes.wide) * data.seconds;
  if (seconds < 0 || seconds > data.seconds || y > boxes.similarity + boxes.wide) return null;
  const below = ((y - boxes.similarity) / boxes.wide) * data.seconds;
  return { across: seconds, down: below >= 0 ? below : null, y };
}

picture.addEventListener("pointermove", (event) => {
  pointed = event.pointerType === "touch" ? null : within(event);
  mark();
});
picture.addEventListener("pointerleave", () => {
  pointed = null;
  mark();
});
picture.addEventListener("click", (event) => {
  const place = within(event);
  if (!place) return;
  choose(momentAt(place.across));
  play(chosen);
});

picture.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const here = chosen < 0 ? momentAt(audio.currentTime) : chosen;
  const second = Math.max(1, Math.round(1 / data.step));
  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: second, PageDown: -second, Home: -count, End: count };
  if (event.key in steps) choose(Math.min(count - 1, Math.max(0, chosen < 0 ? here : here + steps[event.key])));
  else if (event.key === "Enter") {
    choose(here);
    play(here);
  } else if (event.key === " ") {
    if (audio.paused) audio.play().catch(() => {});
    else audio.pause();
  } else if (event.key === "Escape") choose(-1);
  else return;
  event.preventDefault();
});

// The size and the theme.
picture.setAttribute("aria-valuemax", data.seconds.toFixed(2));
new ResizeObserver(fit).observe(field);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
fit();
