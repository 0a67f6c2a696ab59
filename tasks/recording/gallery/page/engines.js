// Two ways to play the signals of a track together.
//
// Both have: names, load(), start(seconds), stop(), time(), set(name, gain), gain(name), close().

// Decoded into memory and started on the same sample. For audio that is in the page.
class BufferEngine {
  constructor(sources) {
    this.sources = sources;
    this.names = [...sources.keys()];
    this.gains = new Map(this.names.map((name) => [name, 1]));
    this.playing = [];
    this.offset = 0;
  }

  async load() {
    this.context = new AudioContext();
    const decoded = await Promise.all([...this.sources].map(async ([name, url]) => {
      const data = bytesOf(url.slice(url.indexOf(',') + 1)).buffer;
      return [name, await this.context.decodeAudioData(data)];
    }));
    this.buffers = new Map(decoded);
    this.nodes = new Map(this.names.map((name) => {
      const node = this.context.createGain();
      node.gain.value = this.gains.get(name);
      node.connect(this.context.destination);
      return [name, node];
    }));
  }

  async start(seconds) {
    await this.context.resume();
    this.stop();
    this.offset = seconds;
    this.startedAt = this.context.currentTime + 0.04;
    this.playing = this.names.map((name) => {
      const source = this.context.createBufferSource();
      source.buffer = this.buffers.get(name);
      source.connect(this.nodes.get(name));
      source.start(this.startedAt, Math.min(seconds, source.buffer.duration));
      return source;
    });
  }

  stop() {
    if (this.playing.length) this.offset = this.time();
    for (const source of this.playing) source.stop();
    this.playing = [];
  }

  time() {
    if (!this.playing.length) return this.offset;
    const heard = this.context.currentTime - this.startedAt - (this.context.outputLatency || 0);
    return this.offset + Math.max(0, heard);
  }

  positions() {
    return this.names.map(() => this.time()); // one clock for all
  }

  set(name, gain) {
    this.gains.set(name, gain);
    // A short ramp: a jump clicks.
    this.nodes?.get(name).gain.setTargetAtTime(gain, this.context.currentTime, 0.008);
  }

  gain(name) {
    return this.gains.get(name);
  }

  close() {
    this.stop();
    this.context?.close();
    this.buffers = null;
  }
}

// A media element a signal, held together by small changes of speed. For files beside the page,
// which a page from file:// may play but not read, and for what is too long to decode whole.
class ElementEngine {
  constructor(sources) {
    this.names = [...sources.keys()];
    this.urls = [];
    this.elements = new Map([...sources].map(([name, url]) => {
      const element = new Audio();
      element.preload = 'auto';
      element.src = url.startsWith('data:') ? this.blob(url) : url;
      return [name, element];
    }));
    this.leader = this.elements.get(this.names[0]);
  }

  blob(url) {
    const data = bytesOf(url.slice(url.indexOf(',') + 1));
    this.urls.push(URL.createObjectURL(new Blob([data], { type: url.slice(5, url.indexOf(';')) })));
    return this.urls.at(-1);
  }

  async load() {
    await Promise.all([...this.elements].map(([name, element]) => this.ready(element, name)));
  }

  ready(element, name) {
    if (element.readyState >= 3) return Promise.resolve();
    return new Promise((resolve, reject) => {
      element.addEventListener('canplay', resolve, { once: true });
      element.addEventListener('error', () => reject(new Error(`${name} can't be played`)), { once: true });
      if (element.error) reject(new Error(`${name} can't be played`));
    });
  }

  async start(seconds) {
    this.stop();
    const all = [...this.elements];
    for (const [, element] of all) element.currentTime = seconds;
    await Promise.all(all.map(([name, element]) => this.ready(element, name)));
    await Promise.all(all.map(([, element]) => element.play()));
    this.timer = setInterval(() => this.align(), 100);
  }

  align() {
    for (const element of this.elements.values()) {
      if (element === this.leader || element.ended) continue;
      const ahead = element.currentTime - this.leader.currentTime;
      if (Math.abs(ahead) > 0.3) element.currentTime = this.leader.currentTime;
      element.playbackRate = Math.abs(ahead) < 0.01 ? 1 : 1 - Math.max(-0.08, Math.min(0.08, ahead));
    }
  }

  stop() {
    clearInterval(this.timer);
    for (const element of this.elements.values()) element.pause();
  }

  time() {
    return this.leader.currentTime;
  }

  positions() {
    return [...this.elements.values()].map((element) => element.currentTime);
  }

  set(name, gain) {
    const element = this.elements.get(name);
    element.muted = gain === 0; // where a page may not set the volume it may still mute
    element.volume = gain;
  }

  gain(name) {
    const element = this.elements.get(name);
    return element.muted ? 0 : element.volume;
  }

  close() {
    this.stop();
    for (const element of this.elements.values()) element.removeAttribute('src');
    for (const url of this.urls) URL.revokeObjectURL(url);
  }
}
