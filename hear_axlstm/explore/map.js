const names = data.names;
const count = names.length;
const places = Float64Array.from(unpacked(data.places, Uint16Array), (place) => place / 65535);
const codes = unpacked(data.codes, Uint8Array);
const seconds = unpacked(data.seconds, Float32Array);
const heard = unpacked(data.heard, Uint8Array);
const [rootOf, folderOf, textOf] = [data.rootOf, data.folderOf, data.textOf].map((text) => unpacked(text, Uint32Array));
const neighbours = unpacked(data.neighbours, Uint16Array);
const cosines = unpacked(data.cosines, Int8Array);
const each = neighbours.length / count;
const [FILE, GONE, ADDRESS] = [0, 1, 2];
const NONE = 255;

const map = find("map");
const marks = find("marks");
const field = map.parentElement;
const tip = document.querySelector(".tip");
const audio = find("audio");
const search = find("search");

const EDGE = 18; // px around the whole map
const CLOSEST = 64;
const view = { x: 0.5, y: 0.5, zoom: 1 }; // what is in the middle, and how near
let size = { width: 1, height: 1, ratio: 1 };
let frame = new ImageData(1, 1); // the pixels of the map
let [chosen, pointed] = [-1, -1];
let matching = null; // a flag for each sound while something is searched
const hiddenCodes = new Set();
const shows = (sound) => !hiddenCodes.has(data.scale && codes[sound] !== NONE ? 0 : codes[sound]);

// Dots are drawn in an order drawn by lot, so that no folder lies on top of the others; grey ones lie below.
let order = Uint32Array.from({ length: count }, (_, sound) => sound);
for (let at = count - 1, lot = 1; at > 0; at--) {
  lot = (lot * 16807) % 2147483647;
  const other = lot % (at + 1);
  [order[at], order[other]] = [order[other], order[at]];
}
const isGrey = (sound) => codes[sound] === NONE || (!data.scale && codes[sound] >= data.others);
order = Uint32Array.from([...order.filter(isGrey), ...order.filter((sound) => !isGrey(sound))]);

// Places on the screen.
const span = () => Math.max(1, Math.min(size.width, size.height) - 2 * EDGE) * view.zoom;
const screenX = (sound) => size.width / 2 + (places[2 * sound] - view.x) * span();
const screenY = (sound) => size.height / 2 - (places[2 * sound + 1] - view.y) * span();
const radius = () => Math.min(8, Math.max(1.6, 7 - Math.log10(count + 1) * 1.15) * view.zoom ** 0.3);

// Colours and shapes: a small picture for each code, made anew for another theme or zoom. They are blended into the canvas by
// hand: without a graphics card, 20,000 calls of drawImage would take a quarter of a second.
const SHAPES = Array.from(document.querySelectorAll(".legend label path"), (path) => path.getAttribute("d"));
const shapeOf = new Map(Array.from(document.querySelectorAll("[data-code]"), (box, at) => [Number(box.dataset.code), SHAPES[at]]));
const ROUND = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z";
let sprites = new Map();

function colourOf(code) {
  if (code === NONE) return themeColour("--grey");
  if (!data.scale) return themeColour(code >= data.others ? "--grey" : `--colour-${code % data.colours}`);
  return `rgb(${between(SCALE.map(parts), code / 254).join(" ")})`;
}

function sprite(code) {
  const known = sprites.get(code);
  if (known) return known;
  const scale = (radius() / 4) * size.ratio;
  const half = Math.ceil(6 * scale + 1);
  const side = 2 * half;
  const pen = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  pen.translate(half, half);
  pen.scale(scale, scale);
  const path = new Path2D(data.scale ? ROUND : shapeOf.get(code));
  pen.fillStyle = colourOf(code);
  pen.fill(path);
  if (radius() > 3) {
    pen.lineWidth = 0.7;
    pen.strokeStyle = themeColour("--paper");
    pen.stroke(path);
  }
  const picture = { side, dots: pen.getImageData(0, 0, side, side).data };
  sprites.set(code, picture);
  return picture;
}

let asked = false;
function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    draw();
    mark();
  });
}

function draw() {
  const paper = parts("--paper");
  new Uint32Array(frame.data.buffer).fill((255 << 24) | (paper[2] << 16) | (paper[1] << 8) | paper[0]);
  for (const matched of matching ? [0, 1] : [1]) {
    const share = matched ? 0.9 : 0.12;
    for (const sound of order) {
      if (!shows(sound) || (matching && matching[sound] !== matched)) continue;
      blend(sprite(codes[sound]), screenX(sound) * size.ratio, screenY(sound) * size.ratio, share);
    }
  }
  map.getContext("2d").putImageData(frame, 0, 0);
}

/** Put a picture into the frame, with its middle at a place. share: of it that hides what lies below. */
function blend(picture, x, y, share) {
  const { side, dots } = picture;
  const { width, height, data: pixels } = frame;
  const [left, top] = [Math.round(x - side / 2), Math.round(y - side / 2)];
  const [first, last] = [Math.max(0, -left), Math.min(side, width - left)];
  for (let row = Math.max(0, -top); row < Math.min(side, height - top); row++) {
    for (let column = first; column < last; column++) {
      const from = 4 * (row * side + column);
      const alpha = (dots[from + 3] * share) / 255;
      if (!alpha) continue;
      const to = 4 * ((top + row) * width + left + column);
      pixels[to] += (dots[from] - pixels[to]) * alpha;
      pixels[to + 1] += (dots[from + 1] - pixels[to + 1]) * alpha;
      pixels[to + 2] += (dots[from + 2] - pixels[to + 2]) * alpha;
    }
  }
}

// Over the dots: a ring around the chosen one, lines to its neighbours, a ring around the one that is pointed at.
function mark() {
  const pen = marks.getContext("2d");
  pen.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  pen.clearRect(0, 0, size.width, size.height);
  pen.strokeStyle = themeColour("--ink");
  const ring = (sound, wide) => {
    pen.lineWidth = wide;
    pen.beginPath();
    pen.arc(screenX(sound), screenY(sound), radius() + 3, 0, 2 * Math.PI);
    pen.stroke();
  };
  if (chosen >= 0) {
    pen.lineWidth = 1;
    pen.globalAlpha = 0.55;
    for (const other of nearest(chosen)) {
      pen.beginPath();
      pen.moveTo(screenX(chosen), screenY(chosen));
      pen.lineTo(screenX(other), screenY(other));
      pen.stroke();
    }
    pen.globalAlpha = 1;
    ring(chosen, 2.5);
  }
  tip.hidden = pointed < 0;
  if (pointed < 0) return;
  ring(pointed, 1.2);
  tip.textContent = names[pointed];
  const left = Math.min(Math.max(4, screenX(pointed) - tip.offsetWidth / 2), size.width - tip.offsetWidth - 4);
  const above = screenY(pointed) - tip.offsetHeight - 10;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${above > 0 ? above : screenY(pointed) + 12}px`;
}

const nearest = (sound) => neighbours.subarray(sound * each, (sound + 1) * each);

/** The sound whose dot is nearest to a place on the screen, -1 where none is within reach. */
function soundAt(x, y, reach) {
  let [best, least] = [-1, reach * reach];
  for (let sound = 0; sound < count; sound++) {
    const distance = (screenX(sound) - x) ** 2 + (screenY(sound) - y) ** 2;
    if (distance <= least && shows(sound)) [best, least] = [sound, distance];
  }
  return best;
}

// Choosing and hearing.
function addressOf(sound) {
  const root = data.roots[rootOf[sound]];
  return root.endsWith("/") ? root + names[sound].split("/").map(encodeURIComponent).join("/") : root;
}

function silence(words) {
  find("silent").textContent = words;
  find("silent").hidden = !words;
}

function load(sound) {
  const [way, address] = [heard[sound], addressOf(sound)];
  audio.pause();
  audio.hidden = way !== FILE;
  if (way === FILE) {
    audio.src = address;
    silence("");
  } else {
    audio.removeAttribute("src");
    if (way === ADDRESS) silence(`It is at an address, which this page does not open: ${address}`);
    else silence(way === GONE ? "Its file was not there any more when this map was made." : "It was never in a file.");
  }
}

audio.addEventListener("error", () => {
  if (!audio.getAttribute("src")) return;
  const local = location.protocol === "file:";
  const cause = "it is not there any more, or browsers do not know its format (as .aiff, .caf or .wma)";
  silence(`The file cannot be played: ${local ? cause : "open this page from the disk that holds the sounds"}.`);
});

function play() {
  if (audio.getAttribute("src")) audio.play().catch(() => {}); // why not is told by its error
}

function length(sound) {
  return Number.isFinite(seconds[sound]) ? `${seconds[sound].toFixed(seconds[sound] < 10 ? 2 : 1)} s` : "unknown";
}

function entry(sound, text) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const name = document.createElement("bdi");
  name.textContent = names[sound];
  button.type = "button";
  button.dataset.sound = sound;
  button.append(name);
  item.append(button, text);
  return item;
}

function choose(sound) {
  chosen = sound;
  find("details").hidden = sound < 0;
  find("nothing").hidden = sound >= 0;
  if (sound >= 0) {
    find("name").textContent = names[sound];
    find("folder").textContent = data.folders[folderOf[sound]] || "none";
    find("length").textContent = length(sound);
    if (find("value")) find("value").textContent = data.texts[textOf[sound]] || "no value";
    const rows = Array.from(nearest(sound), (other, at) => entry(other, (cosines[sound * each + at] / 100).toFixed(2)));
    find("neighbours").replaceChildren(...rows);
    load(sound);
    find("said").textContent = `${names[sound]}, ${data.texts[textOf[sound]] || "no value"}, ${length(sound)}`;
  } else {
    audio.pause();
    audio.removeAttribute("src");
    find("said").textContent = "";
  }
  redraw();
}

/** Choose a sound, and move the map where it is not in sight. */
function goTo(sound) {
  const [x, y] = [screenX(sound), screenY(sound)];
  if (x < EDGE || y < EDGE || x > size.width - EDGE || y > size.height - EDGE) {
    [view.x, view.y] = [places[2 * sound], places[2 * sound + 1]];
  }
  choose(sound);
}

document.querySelector("aside").addEventListener("click", (event) => {
  const button = event.target.closest("[data-sound]");
  if (!button) return;
  const inNeighbours = find("neighbours").contains(button);
  goTo(Number(button.dataset.sound));
  play();
  if (inNeighbours) find("neighbours").querySelector("button")?.focus({ preventScroll: true });
});

// Zoom and movement.
function zoom(factor, x = size.width / 2, y = size.height / 2) {
  const before = span();
  view.zoom = Math.min(CLOSEST, Math.max(0.5, view.zoom * factor));
  const gain = 1 / before - 1 / span();
  move((x - size.width / 2) * gain, (size.height / 2 - y) * gain);
  sprites.clear();
}

function move(x, y) {
  view.x = Math.min(1, Math.max(0, view.x + x));
  view.y = Math.min(1, Math.max(0, view.y + y));
  redraw();
}

function whole() {
  Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 });
  sprites.clear();
  redraw();
}

find("closer").addEventListener("click", () => zoom(1.5));
find("farther").addEventListener("click", () => zoom(1 / 1.5));
find("whole").addEventListener("click", whole);

function within(event) {
  const box = map.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

map.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.002)), ...within(event));
}, { passive: false });

const fingers = new Map(); // where each pointer that is down was last
let dragged = false;
let began = [0, 0];

map.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  map.setPointerCapture(event.pointerId);
  if (!fingers.size) [dragged, began] = [false, within(event)];
  fingers.set(event.pointerId, within(event));
});

map.addEventListener("pointermove", (event) => {
  const [x, y] = within(event);
  const last = fingers.get(event.pointerId);
  if (!last) {
    const now = event.pointerType === "touch" ? -1 : soundAt(x, y, radius() + 5);
    if (now !== pointed) {
      pointed = now;
      mark();
    }
    return;
  }
  dragged ||= fingers.size > 1 || Math.hypot(x - began[0], y - began[1]) > 5;
  if (!dragged) return;
  pointed = -1;
  if (fingers.size === 1) {
    move((last[0] - x) / span(), (y - last[1]) / span());
  } else if (fingers.size === 2) {
    const other = Array.from(fingers).find(([id]) => id !== event.pointerId)[1];
    const apart = (one) => Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1]));
    zoom(apart([x, y]) / apart(last), (x + other[0]) / 2, (y + other[1]) / 2);
    move((last[0] - x) / 2 / span(), (y - last[1]) / 2 / span());
  }
  fingers.set(event.pointerId, [x, y]);
});

map.addEventListener("pointerup", (event) => {
  if (!fingers.delete(event.pointerId) || dragged || fingers.size) return;
  const sound = soundAt(...within(event), radius() + (event.pointerType === "touch" ? 16 : 6));
  choose(sound);
  if (sound >= 0) play();
});
map.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
map.addEventListener("pointerleave", () => {
  pointed = -1;
  mark();
});

// Keys: an arrow goes to the nearest sound in its direction.
const DIRECTIONS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function step([right, down]) {
  if (chosen < 0) return soundAt(size.width / 2, size.height / 2, Infinity);
  let [best, least] = [chosen, Infinity];
  for (let sound = 0; sound < count; sound++) {
    const [x, y] = [screenX(sound) - screenX(chosen), screenY(sound) - screenY(chosen)];
    const along = x * right + y * down;
    const aside = Math.abs(x * down + y * right);
    if (along <= 0 || aside > along || !shows(sound)) continue;
    if (along + aside < least) [best, least] = [sound, along + aside];
  }
  return best;
}

map.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const direction = DIRECTIONS[event.key];
  if (direction) {
    const sound = step(direction);
    if (sound >= 0) goTo(sound);
  } else if (event.key === "Enter" || event.key === " ") {
    if (audio.paused) play();
    else audio.pause();
  } else if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") whole();
  else if (event.key === "Escape") choose(-1);
  else return;
  event.preventDefault();
});

// Search: the dots that match stay bright, and the first of them are listed.
const LISTED = 50;
let folded = null;

search.addEventListener("input", () => {
  const words = search.value.trim().toLowerCase();
  folded ??= names.map((name, sound) => `${name}\n${data.texts[textOf[sound]]}`.toLowerCase());
  matching = words ? Uint8Array.from(folded, (text) => text.includes(words)) : null;
  const found = [];
  if (matching) for (let sound = 0; sound < count; sound++) if (matching[sound]) found.push(sound);
  find("results").hidden = !matching;
  const more = found.length > LISTED ? `, the first ${LISTED} are listed` : "";
  find("found").textContent = `${found.length.toLocaleString("en")} found${more}`;
  find("results").querySelector("ol").replaceChildren(...found.slice(0, LISTED).map((sound) => entry(sound, "")));
  redraw();
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") find("results").querySelector("button")?.click();
});

// The legend hides and shows.
const boxes = Array.from(document.querySelectorAll("[data-code]"));

function hideUnchecked() {
  hiddenCodes.clear();
  for (const box of boxes) if (!box.checked) hiddenCodes.add(Number(box.dataset.code));
  pointed = -1;
  if (chosen >= 0 && !shows(chosen)) choose(-1);
  redraw();
}

for (const box of boxes) box.addEventListener("change", hideUnchecked);
for (const [id, checked] of [["all", true], ["none", false]]) {
  find(id)?.addEventListener("click", () => {
    for (const box of boxes) box.checked = checked;
    hideUnchecked();
  });
}

// The size and the theme.
function fit() {
  const ratio = devicePixelRatio || 1;
  size = { width: field.clientWidth, height: field.clientHeight, ratio };
  for (const canvas of [map, marks]) {
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
  }
  frame = new ImageData(Math.max(1, map.width), Math.max(1, map.height));
  sprites.clear();
  draw();
  mark();
}

new ResizeObserver(fit).observe(field);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
fit();
