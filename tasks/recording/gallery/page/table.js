// The table: filtered and sorted whole, shown a page at a time.

const PAGE_ROWS = 50;
const VERDICT_ORDER = { fail: 0, review: 1, pass: 2 };
const INPUTS = ['search', 'verdict', 'model', 'genre', 'low', 'high'];
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

class Table {
  constructor(fields, rows) {
    this.rows = rows.map((row) => {
      const track = Object.fromEntries(fields.map((field, index) => [field, row[index]]));
      track.text = [track.title, track.artist, track.genre, track.model, track.track_id,
        track.worst, ...track.reasons.map(words)].join(' ').toLowerCase();
      return track;
    });
    this.body = document.querySelector('#table tbody');
    this.key = 'score';
    this.down = false;
    this.page = 0;
    this.shown = this.rows;
    for (const id of INPUTS) byId(id).addEventListener('input', () => this.refresh(0));
    document.querySelector('.filters').addEventListener('submit', (event) => event.preventDefault());
    document.querySelector('.filters').addEventListener('reset', () => setTimeout(() => this.refresh(0)));
    byId('sort').addEventListener('change', (event) => {
      const [, minus, key] = event.target.value.match(/^(-?)(.*)$/);
      this.sortBy(key, minus === '-');
    });
    for (const button of document.querySelectorAll('th button')) {
      const { key } = button.dataset;
      button.addEventListener('click', () => this.sortBy(key, this.key === key && !this.down));
    }
    byId('previous-page').addEventListener('click', () => this.turn(-1));
    byId('next-page').addEventListener('click', () => this.turn(1));
    this.body.addEventListener('click', (event) => {
      const row = event.target.closest('tr');
      if (row && !event.target.closest('a') && !String(getSelection())) row.querySelector('a').click();
    });
    this.refresh(0);
  }

  sortBy(key, down) {
    this.key = key;
    this.down = down;
    this.refresh(0);
  }

  turn(pages) {
    this.refresh(this.page + pages);
    byId('tracks').scrollIntoView();
    this.body.querySelector('a')?.focus({ preventScroll: true });
  }

  refresh(page) {
    this.shown = this.rows.filter(this.wanted()).sort(this.order());
    this.pages = Math.max(1, Math.ceil(this.shown.length / PAGE_ROWS));
    this.page = Math.min(Math.max(0, page), this.pages - 1);
    const start = this.page * PAGE_ROWS;
    this.body.replaceChildren(...this.shown.slice(start, start + PAGE_ROWS).map((row) => this.line(row)));
    for (const button of document.querySelectorAll('th button')) {
      const direction = this.down ? 'descending' : 'ascending';
      button.parentElement.setAttribute('aria-sort', button.dataset.key === this.key ? direction : 'none');
    }
    this.describe();
  }

  describe() {
    const all = this.rows.length.toLocaleString('en');
    const some = this.shown.length.toLocaleString('en');
    const filtered = INPUTS.some((id) => byId(id).value !== '');
    const tracks = this.rows.length === 1 ? 'track' : 'tracks';
    byId('count').textContent = !this.rows.length ? 'There are no reports in this library.'
      : filtered ? `${some} of ${all} ${tracks}` : `${all} ${tracks}`;
    byId('clear').disabled = !filtered;
    document.querySelector('.pager').hidden = this.pages < 2;
    byId('page-number').textContent = `Page ${this.page + 1} of ${this.pages}`;
    byId('previous-page').disabled = this.page === 0;
    byId('next-page').disabled = this.page === this.pages - 1;
  }

  wanted() {
    const value = (id) => byId(id).value;
    const terms = value('search').toLowerCase().split(/\s+/).filter(Boolean);
    const [verdict, model, genre] = [value('verdict'), value('model'), value('genre')];
    const bound = (id) => (value(id) === '' ? null : Number(value(id)));
    const [low, high] = [bound('low'), bound('high')];
    return (row) =>
      (!verdict || row.verdict === verdict) &&
      (!model || row.model === model) &&
      (!genre || row.genre === genre) &&
      (low === null || (row.score !== null && row.score >= low)) &&
      (high === null || (row.score !== null && row.score <= high)) &&
      terms.every((term) => row.text.includes(term));
  }

  order() {
    const { key } = this;
    const sign = this.down ? -1 : 1;
    const value = (row) => (key === 'verdict' ? VERDICT_ORDER[row.verdict] ?? 3 : row[key]);
    return (one, other) => {
      const [a, b] = [value(one), value(other)];
      const empty = (what) => what === null || what === '';
      if (empty(a) || empty(b)) return empty(a) - empty(b); // what is unknown comes last, always
      return sign * (typeof a === 'string' ? collator.compare(a, b) : a - b);
    };
  }

  line(row) {
    const score = el('span', { class: 'bar', 'aria-hidden': 'true' });
    score.style.setProperty('--share', row.score ?? 0);
    return el('tr', { 'data-track': row.track_id },
      el('th', { scope: 'row', class: 'c-title' },
        el('a', { href: `#/${row.track_id}` }, row.title),
        row.artist ? el('span', { class: 'artist' }, row.artist + guessed(row)) : ''),
      el('td', { class: 'c-genre' }, row.genre || NONE),
      el('td', { class: 'c-model' }, row.model),
      el('td', { class: 'c-length number' }, row.duration_s === null ? NONE : clock(row.duration_s)),
      el('td', { class: 'c-verdict' }, verdictMark(row.verdict)),
      el('td', { class: 'c-score number' }, score, fixed(row.score, 2)),
      el('td', { class: 'c-sdr number' }, fixed(row.estimated_si_sdr_db, 1, ' dB')),
      el('td', { class: 'c-why' }, why(row)));
  }

  find(id) {
    return this.rows.find((row) => row.track_id === id);
  }

  // The tracks before and after one, in the order that is shown.
  beside(id) {
    const at = this.shown.findIndex((row) => row.track_id === id);
    return at < 0 ? [null, null] : [this.shown[at - 1] ?? null, this.shown[at + 1] ?? null];
  }

  focus(id) {
    const at = this.shown.findIndex((row) => row.track_id === id);
    if (at >= 0) this.refresh(Math.floor(at / PAGE_ROWS));
    this.body.querySelector(`tr[data-track="${CSS.escape(id)}"] a`)?.focus();
  }
}
