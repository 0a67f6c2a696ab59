// What is heard of a track, and where it is: solo, mute, play, seek.

const MIXTURE = 'mixture';
const DECODED_LIMIT = 700e6;
const DECODED_LIMIT_HAND_HELD = 250e6;

class Player {
  constructor(lanes, duration, changed) {
    this.duration = duration;
    this.changed = changed;
    this.solo = new Set();
    this.muted = new Set();
    this.playing = false;
    this.busy = false;
    this.problem = '';
    this.at = 0;
    // Of two separations of a track one is heard; both play, so that the switch is without a gap.
    this.version = 0;
    this.lanes = new Map(lanes.map((lane) => [lane.name, lane]));
    const sources = new Map(lanes.filter((lane) => lane.audio).map((lane) => [lane.name, lane.audio]));
    this.names = [...sources.keys()];
    // The stems add up to the mixture: both at once would only be louder.
    if (this.names.length > 1 && sources.has(MIXTURE)) this.muted.add(MIXTURE);
    if (sources.size) this.engine = this.engineFor(sources);
    this.apply();
  }

  engineFor(sources) {
    const decoded = this.duration * 48000 * 2 * 4 * sources.size;
    const limit = matchMedia('(pointer: coarse)').matches ? DECODED_LIMIT_HAND_HELD : DECODED_LIMIT;
    const inPage = [...sources.values()].every((url) => url.startsWith('data:'));
    return inPage && decoded < limit ? new BufferEngine(sources) : new ElementEngine(sources);
  }

  stem(name) {
    return this.lanes.get(name).stem ?? name;
  }

  // Whether a lane is of the separation that is heard; the mixture is of both.
  current(name) {
    return (this.lanes.get(name).version ?? this.version) === this.version;
  }

  heard(name) {
    const stem = this.stem(name);
    return this.current(name) && (this.solo.size ? this.solo.has(stem) : !this.muted.has(stem));
  }

  choose(version) {
    this.version = version;
    if (this.engine) this.apply();
  }

  apply() {
    for (const name of this.names) this.engine.set(name, this.heard(name) ? 1 : 0);
    this.changed();
  }

  toggle(set, name) {
    if (!this.names.includes(name)) return;
    const stem = this.stem(name);
    if (set === this.solo && !this.current(name)) {
      set.add(stem);
      this.version = this.lanes.get(name).version;
    } else if (!set.delete(stem)) set.add(stem);
    this.apply();
  }

  only(name) {
    this.solo = new Set(this.names.includes(name) && name !== MIXTURE ? [this.stem(name)] : []);
    this.version = this.lanes.get(name)?.version ?? this.version;
    this.apply();
  }

  async play() {
    if (!this.engine || this.busy) return;
    this.busy = true;
    this.changed();
    try {
      this.loaded ??= this.engine.load();
      await this.loaded;
      if (this.closed) return;
      if (this.at >= this.duration - 0.05) this.at = 0;
      await this.engine.start(this.at);
      this.playing = true;
    } catch (error) {
      this.problem = `This browser can't play it: ${error.message}.`;
      this.engine.stop();
    } finally {
      this.busy = false;
      this.changed();
    }
  }

  pause() {
    if (!this.playing) return;
    this.at = this.time();
    this.engine.stop();
    this.playing = false;
    this.changed();
  }

  async seek(seconds) {
    this.at = Math.min(Math.max(0, seconds), this.duration);
    if (this.playing) await this.engine.start(this.at);
    this.changed();
  }

  time() {
    return Math.min(this.playing ? this.engine.time() : this.at, this.duration);
  }

  close() {
    this.closed = true;
    this.playing = false;
    this.engine?.close();
  }
}
