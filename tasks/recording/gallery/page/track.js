// One track: its signals on one time line, what is wrong where, and the controls.

const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800];

class TrackView {
  constructor(detail, row) {
    this.detail = detail;
    this.row = row;
    this.duration = Math.max(detail.duration_s, 0.001);
    this.switches = new Map();
    this.player = new Player(detail.lanes, this.duration, () => this.refresh());
    this.element = el('div', { class: 'view' },
      this.player.engine ? this.controls() : '',
      el('div', { class: 'lanes' }, this.ruler(), ...detail.lanes.map((lane) => this.lane(lane))),
      this.findings());
    this.refresh();
  }

  controls() {
    this.playButton = el('button', {
      type: 'button', class: 'play', 'aria-keyshortcuts': 'Space', onclick: () => this.toggle(),
    });
    this.position = el('output', { class: 'position', 'aria-live': 'off' });
    this.hearing = el('span', { class: 'hearing', role: 'status' });
    return el('div', { class: 'controls' }, this.playButton, this.position, this.hearing, this.versions());
  }

  // The switch between two separations of the track; what is played goes on.
  versions() {
    if (!this.detail.versions) return '';
    this.choices = this.detail.versions.map((version, at) => el('button', {
      type: 'button', 'aria-label': `Hear ${version.name}`, onclick: () => this.player.choose(at),
    }, el('b', {}, version.name), verdictMark(version.verdict),
    ` ${fixed(version.score, 2)} · ${fixed(version.estimated_si_sdr_db, 1, ' dB')} · ${fixed(version.separation_s, 1, ' s')}`));
    return el('div', { class: 'versions', role: 'group', 'aria-label': 'Which separation is heard' }, ...this.choices);
  }

  ruler() {
    const target = this.duration / Math.max(2, Math.min(10, innerWidth / 110));
    const step = TICKS_S.find((seconds) => seconds >= target) ?? 3600;
    const ticks = [];
    for (let at = 0; at < this.duration - step * 0.3; at += step) {
      ticks.push(this.placed(el('span', { class: 'tick', 'aria-hidden': 'true' }, clock(at)), at));
    }
    this.slider = el('div', {
      class: 'strip scale', role: 'slider', tabindex: '0', 'aria-label': 'Position in the track',
      'aria-valuemin': '0', 'aria-valuemax': this.duration.toFixed(1),
      onkeydown: (event) => this.steer(event),
    }, ...ticks);
    this.seekable(this.slider);
    return el('div', { class: 'lane ruler' }, el('div', { class: 'head' }), el('div', { class: 'strips' }, this.slider));
  }

  lane(lane) {
    const body = lane.problem
      ? el('p', { class: 'problem' }, `Nothing to show: ${lane.problem}`)
      : el('div', { class: 'strips' }, this.wave(lane), this.spectrum(lane));
    if (!lane.problem) this.seekable(body);
    return el('section', { class: 'lane', 'aria-label': lane.name, 'data-lane': lane.name },
      el('div', { class: 'head' },
        el('h3', {}, lane.stem ?? lane.name), this.maker(lane), this.facts(lane), lane.audio ? this.buttons(lane.name) : ''),
      body);
  }

  maker(lane) {
    return lane.version === undefined ? '' : el('p', { class: 'maker' }, this.detail.versions[lane.version].name);
  }

  facts(lane) {
    if (lane.name === MIXTURE || lane.verdict === undefined) return '';
    if (lane.silent || lane.absent) return el('p', { class: 'facts' }, lane.silent ? 'silent' : 'absent');
    const bleed = lane.bleed_from ? `Most bleed: ${lane.bleed_from}, ${fixed(lane.bleed_db, 1, ' dB')}` : null;
    return el('p', { class: 'facts', title: bleed },
      verdictMark(lane.verdict), ` ${fixed(lane.score, 2)} · ${fixed(lane.estimated_si_sdr_db, 1, ' dB')}`,
      lane.worst ? el('span', { class: 'worst' }, lane.worst) : '');
  }

  buttons(name) {
    const make = (label, set) => el('button', {
      type: 'button', 'aria-label': `${label} ${name}`, 'aria-pressed': 'false',
      onclick: () => this.player.toggle(this.player[set], name),
    }, label);
    const made = { solo: make('Solo', 'solo'), muted: make('Mute', 'muted') };
    this.switches.set(name, made);
    return el('div', { class: 'switches' }, made.solo, made.muted);
  }

  wave(lane) {
    const points = new Int8Array(bytesOf(lane.wave).buffer);
    const count = points.length / 2;
    // At least a hair wide, so that silence is a line.
    const top = (at) => -Math.max(points[2 * at + 1], 0.6);
    const bottom = (at) => -Math.min(points[2 * at], -0.6);
    const over = Array.from({ length: count }, (_, at) => `${at} ${top(at)}`);
    const under = Array.from({ length: count }, (_, at) => `${count - 1 - at} ${bottom(count - 1 - at)}`);
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', `0 -127 ${Math.max(1, count - 1)} 254`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(svg.namespaceURI, 'path');
    path.setAttribute('d', `M${over.join('L')}L${under.join('L')}Z`);
    svg.append(path);
    return el('div', { class: 'strip wave' }, svg, ...this.marks(lane.name));
  }

  spectrum(lane) {
    const image = el('img', { src: lane.image, alt: `Spectrogram of ${lane.name}`, draggable: 'false' });
    return el('div', { class: 'strip spectrum' }, image, ...this.marks(lane.name));
  }

  marks(name) {
    return this.detail.reasons
      .map((reason, index) => [reason, index])
      .filter(([reason]) => reason.lane === name)
      .flatMap(([reason, index]) => reason.places.map(([start, end]) => {
        const mark = el('span', { class: 'mark', title: reason.sentence, 'data-reason': index });
        mark.style.width = `${(100 * (Math.min(end, this.duration) - start)) / this.duration}%`;
        return this.placed(mark, start);
      }));
  }

  placed(element, seconds) {
    element.style.left = `${(100 * seconds) / this.duration}%`;
    return element;
  }

  findings() {
    const { reasons, warnings, problems, notes } = this.detail;
    const list = (title, items) => (items.length ? el('section', {}, el('h3', {}, title), el('ul', {}, ...items)) : '');
    return el('div', { class: 'findings' },
      list('What is heard', reasons.map((reason, index) => this.reason(reason, index))),
      list('Worth a look', warnings.map((warning) => this.reason(warning))),
      list('Incomplete', problems.map((text) => el('li', {}, text))),
      list('On the way in', notes.map((text) => el('li', {}, text))),
      list('Files', this.detail.lanes.map((lane) => this.file(lane))),
      this.keys());
  }

  reason(reason, index) {
    const where = reason.when && el('button', {
      type: 'button', class: 'listen',
      'aria-label': `${this.player.engine ? 'Listen to' : 'Go to'} ${reason.stem || 'the track'} from ${reason.when}`,
      onclick: () => this.listen(reason),
    }, reason.when);
    const item = el('li', {},
      el('span', { class: 'what' }, reason.sentence), where || '',
      el('span', { class: 'sentence' }, reason.measured.join(' ')));
    const lit = (on) => () => {
      for (const mark of this.element.querySelectorAll(`[data-reason="${index}"]`)) mark.classList.toggle('lit', on);
    };
    for (const name of ['mouseenter', 'focusin']) item.addEventListener(name, lit(true));
    for (const name of ['mouseleave', 'focusout']) item.addEventListener(name, lit(false));
    return item;
  }

  file(lane) {
    const name = lane.path.split('/').pop();
    return el('li', { class: 'file' },
      lane.file ? el('a', { href: lane.file, download: name, 'aria-label': `Download ${name}` }, name) : name,
      el('code', {}, lane.path));
  }

  keys() {
    const rows = [['Esc', 'all tracks'], ['N P', 'next, previous track']];
    if (this.player.engine) {
      rows.unshift(['Space', 'play or pause'], ['← →', 'five seconds back or on'],
        ['0', 'solo the mixture'], ['1 2 …', 'solo a stem']);
      if (this.detail.versions) rows.unshift(['X', 'hear the other separation']);
    }
    const key = ([names, does]) => el('span', {}, ...names.split(' ').map((name) => el('kbd', {}, name)), ` ${does}`);
    return el('p', { class: 'keys note' }, ...rows.map(key));
  }

  listen(reason) {
    this.player.only(reason.lane);
    this.player.seek(Math.max(0, reason.places[0][0] - 0.3));
    if (!this.player.playing) this.player.play();
  }

  seekable(strip) {
    const seek = (event) => {
      const box = strip.getBoundingClientRect();
      this.player.seek(((event.clientX - box.left) / box.width) * this.duration);
    };
    let down = false;
    strip.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      down = event.pointerType === 'mouse'; // a finger that moves wants to scroll
      if (down) strip.setPointerCapture(event.pointerId);
      seek(event);
    });
    strip.addEventListener('pointermove', (event) => down && seek(event));
    strip.addEventListener('pointerup', () => { down = false; });
    strip.addEventListener('pointercancel', () => { down = false; });
  }

  steer(event) {
    const steps = { ArrowLeft: -5, ArrowRight: 5, ArrowDown: -1, ArrowUp: 1, PageDown: -15, PageUp: 15 };
    const now = this.player.time();
    const to = { Home: 0, End: this.duration }[event.key] ?? (event.key in steps ? now + steps[event.key] : null);
    if (to === null || event.ctrlKey || event.metaKey || event.altKey) return false;
    event.preventDefault();
    event.stopPropagation();
    this.player.seek(to);
    return true;
  }

  // Keys that work wherever the focus is on the track. True if this was one.
  key(event) {
    const stems = this.detail.lanes.filter((lane) => this.player.current(lane.name));
    const digit = /^[0-9]$/.test(event.key) ? stems[Number(event.key)] : null;
    if (event.key === ' ') this.toggle();
    else if (event.key.toLowerCase() === 'x' && this.choices) this.player.choose(1 - this.player.version);
    else if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') return this.steer(event);
    else if (digit) this.player.toggle(this.player.solo, digit.name);
    else return false;
    return true;
  }

  toggle() {
    if (this.player.playing) this.player.pause();
    else this.player.play();
  }

  refresh() {
    const { player } = this;
    if (!this.element) return;
    if (player.engine) {
      this.playButton.textContent = player.busy ? 'Loading…' : player.playing ? 'Pause' : 'Play';
      this.playButton.classList.toggle('on', player.playing);
      this.hearing.textContent = player.problem || this.heardNow();
      for (const [name, { solo, muted }] of this.switches) {
        solo.setAttribute('aria-pressed', player.solo.has(player.stem(name)));
        muted.setAttribute('aria-pressed', player.muted.has(player.stem(name)));
        this.element.querySelector(`[data-lane="${CSS.escape(name)}"]`).classList.toggle('quiet', !player.heard(name));
      }
    }
    this.choices?.forEach((button, at) => button.setAttribute('aria-pressed', at === player.version));
    this.move();
    if (player.playing && !this.frame) this.frame = requestAnimationFrame(() => this.run());
  }

  heardNow() {
    const heard = this.player.names.filter((name) => this.player.heard(name));
    const stems = this.player.names.filter((name) => name !== MIXTURE && this.player.current(name));
    const all = heard.length === stems.length && !heard.includes(MIXTURE);
    const said = all ? 'all stems' : heard.map((name) => this.player.stem(name)).join(' + ') || 'nothing';
    return this.choices ? `${said} of ${this.detail.versions[this.player.version].name}` : said;
  }

  run() {
    this.frame = null;
    if (!this.player.playing) return;
    if (this.player.time() >= this.duration - 0.01) this.player.pause();
    this.move();
    this.frame = requestAnimationFrame(() => this.run());
  }

  move() {
    const now = this.player.time();
    this.element.style.setProperty('--at', now / this.duration);
    const said = `${clock(now)} of ${clock(this.duration)}`;
    if (said === this.said) return; // a screen reader needs no sixty updates a second
    this.said = said;
    this.slider.setAttribute('aria-valuenow', now.toFixed(1));
    this.slider.setAttribute('aria-valuetext', said);
    if (this.position) this.position.textContent = `${clock(now)} / ${clock(this.duration)}`;
  }

  close() {
    this.player.close();
    cancelAnimationFrame(this.frame);
  }
}
