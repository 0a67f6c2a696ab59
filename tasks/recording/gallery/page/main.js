// Which view is shown (the address says: #/TRACK), and the keys that belong to none of its parts.

const gallery = JSON.parse(byId('gallery').textContent);
const table = new Table(gallery.fields, gallery.rows);
const waiting = new Map();
let view = null;
let opened = null;

// Called by the files beside the page, which hand over a track each.
const receive = (detail) => waiting.get(detail.track_id)?.resolve(detail);

const detailOf = (id) => {
  const inPage = document.querySelector(`script[data-track="${CSS.escape(id)}"]`);
  if (inPage) return Promise.resolve(JSON.parse(inPage.textContent));
  const file = gallery.sides[id];
  if (!file) return Promise.resolve(null);
  return new Promise((resolve, reject) => {
    const script = el('script', { src: file });
    waiting.set(id, { resolve });
    script.addEventListener('error', () => reject(new Error(`${file} is missing beside this page`)));
    script.addEventListener('load', () => { script.remove(); waiting.delete(id); });
    document.head.append(script);
  });
};

const facts = (row) => {
  const parts = [row.genre, row.model, row.duration_s === null ? '' : clock(row.duration_s)];
  return [verdictMark(row.verdict), ` score ${fixed(row.score, 2)}, estimated SI-SDR ${estimate(row)}`,
    ...parts.filter(Boolean).map((part) => ` · ${part}`)];
};

const estimate = (row) => {
  const known = row.estimated_si_sdr_low_db !== null && row.estimated_si_sdr_high_db !== null;
  const likely = known ? ` (likely ${fixed(row.estimated_si_sdr_low_db, 0)} to ${fixed(row.estimated_si_sdr_high_db, 0)})` : '';
  return fixed(row.estimated_si_sdr_db, 1, ' dB') + likely;
};

const further = (row, detail) => {
  const parts = [];
  if (detail.percentile !== null) {
    parts.push(`better than ${fixed(detail.percentile, 0, ' %')} of ${detail.population || 'its population'}`);
  }
  if (row.residual_db !== null) parts.push(`residual ${fixed(row.residual_db, 1, ' dB')}`);
  parts.push(`${words(detail.engine)} (${detail.device})`, row.created_at, detail.source);
  return el('p', { class: 'note further' }, parts.join(' · '));
};

const show = async (row) => {
  close();
  opened = row.track_id;
  byId('list').hidden = true;
  byId('track').hidden = false;
  byId('track-title').textContent = row.title;
  byId('track-artist').textContent = row.artist ? row.artist + guessed(row) : 'Track';
  byId('track-facts').replaceChildren(...facts(row));
  const [before, after] = table.beside(row.track_id);
  byId('previous-track').disabled = !before;
  byId('next-track').disabled = !after;
  document.title = `${row.title} · Stemwright gallery`;
  scrollTo(0, 0);
  byId('track-title').focus({ preventScroll: true });
  byId('stage').replaceChildren(el('p', { class: 'note', role: 'status' }, 'Loading…'));
  let content = null;
  try {
    const detail = await detailOf(row.track_id);
    if (opened !== row.track_id) return;
    if (detail) {
      view = new TrackView(detail, row);
      content = [view.element, further(row, detail)];
    } else {
      content = [el('p', { class: 'empty' }, why(row) || 'Nothing is wrong with it.'),
        el('p', { class: 'note' }, 'This track has no pictures here; ',
          el('code', {}, 'stemwright gallery --pictures N'), ' draws more.')];
    }
  } catch (error) {
    if (opened !== row.track_id) return;
    content = [el('p', { class: 'empty', role: 'alert' }, `It can't be shown: ${error.message}.`)];
  }
  byId('stage').replaceChildren(...content);
};

const close = () => {
  view?.close();
  view = null;
};

const route = () => {
  const row = location.hash.startsWith('#/') ? table.find(location.hash.slice(2)) : null;
  if (row) {
    show(row);
    return;
  }
  const last = opened;
  close();
  opened = null;
  byId('stage').replaceChildren();
  byId('track').hidden = true;
  byId('list').hidden = false;
  document.title = listTitle;
  if (last) table.focus(last);
};

const step = (side) => {
  const row = opened && table.beside(opened)[side];
  if (row) location.hash = `#/${row.track_id}`;
};

const listTitle = document.title;
byId('back').addEventListener('click', (event) => { event.preventDefault(); location.hash = ''; });
byId('previous-track').addEventListener('click', () => step(0));
byId('next-track').addEventListener('click', () => step(1));

addEventListener('keydown', (event) => {
  if (!opened || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  const own = event.target.closest('a, button, input, select, textarea');
  if (event.key === 'Escape') location.hash = '';
  else if (event.key === 'n' || event.key === 'N') step(1);
  else if (event.key === 'p' || event.key === 'P') step(0);
  else if ((own && event.key === ' ') || !view?.key(event)) return; // a button's space is its own
  event.preventDefault();
});
addEventListener('hashchange', route);

// For the files beside the page, and for who wants to look inside.
globalThis.stemwright = { receive, table, get view() { return view; } };
route();
