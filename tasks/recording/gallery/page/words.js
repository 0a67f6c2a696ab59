// Small helpers: elements, and numbers as people read them.

const NONE = '–';

// Only text nodes and attributes, never markup: the words are strangers'.
const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.filter((child) => child !== null && child !== ''));
  return made;
};

const byId = (id) => document.getElementById(id);

const fixed = (value, digits, unit = '') =>
  value === null || value === undefined ? NONE : value.toFixed(digits).replace('-', '−') + unit;

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const pad = (number) => String(number).padStart(2, '0');
  const minutes = `${Math.floor(whole / 60) % 60}`;
  return whole < 3600
    ? `${minutes}:${pad(whole % 60)}`
    : `${Math.floor(whole / 3600)}:${pad(minutes)}:${pad(whole % 60)}`;
};

const words = (code) => code.replaceAll('_', ' ').replace(/\bsdr\b/, 'SDR');

// Where only a file's name told artist and title.
const guessed = (row) => (row.guessed.length ? ' (guessed)' : '');

// The worst thing heard, or from before that was known the codes.
const why = (row) => row.worst || row.reasons.slice(0, 2).map(words).join(', ');

const verdictMark = (verdict) =>
  el('span', { class: `verdict ${verdict}` }, gallery.quality[verdict] ?? verdict ?? NONE);

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
