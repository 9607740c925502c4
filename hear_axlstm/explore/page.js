"use strict";

// What the page holds: texts, and numbers as arrays in base64.
const data = JSON.parse(document.getElementById("data").textContent);
const unpacked = (text, Kind) => new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
const find = (id) => document.getElementById(id);

// Colours of the theme.
const SCALE = [0, 1, 2, 3, 4].map((stop) => `--scale-${stop}`);

function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The red, green and blue of a colour of the theme. */
function parts(name) {
  return [1, 3, 5].map((at) => parseInt(themeColour(name).slice(at, at + 2), 16));
}

/** The colour at a place from 0 to 1 on a scale of several. */
function between(stops, place) {
  const along = place * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(along));
  return stops[low].map((part, at) => Math.round(part + (stops[low + 1][at] - part) * (along - low)));
}

