// The connection to the proxy: its stream of events, and what to do while there is none.

const SILENT = 4000; // ms without news after which what is shown counts as old
const DEAD = 15_000; // ms without news after which another stream is asked for
const POLL = 2000; // ms between two readings where no stream is to be had
const AGAIN = 10_000; // ms until a stream is asked for again that was refused
const UNSEEN = 60_000; // ms that a page may be hidden before it gives its stream up

/** Keeps a page up to date. `hear` has status, history, note and state. */
export class Link {
  #hear;
  #source = null;
  #lastNews = 0;
  #lostSince = null;
  #polling = null;
  #again = null;
  #hidden = null;

  constructor(hear) {
    this.#hear = hear;
    document.addEventListener('visibilitychange', () => this.#visibility());
    setInterval(() => this.#watch(), 1000);
    this.open();
  }

  open() {
    this.#close();
    const source = new EventSource('api/v1/stream');
    this.#source = source;
    this.#lastNews = Date.now();
    const on = (name, then) => source.addEventListener(name, (event) => {
      this.#live();
      then(JSON.parse(event.data));
    });
    on('status', (status) => this.#hear.status(status));
    on('history', (history) => this.#hear.history(history));
    on('note', (note) => this.#hear.note(note));
    source.addEventListener('error', () => {
      if (this.#source !== source) return;
      // It tries again by itself, unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED) this.#refused();
      else this.#lost('the connection broke');
    });
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearInterval(this.#polling);
    clearTimeout(this.#again);
    this.#polling = null;
  }

  #live() {
    this.#lastNews = Date.now();
    if (this.#lostSince === null && this.#polling === null && this.state === 'live') return;
    clearInterval(this.#polling);
    this.#polling = null;
    this.#lostSince = null;
    this.#tell('live');
  }

  #lost(why) {
    this.#lostSince ??= new Date();
    this.#tell('lost', why);
  }

  #tell(state, why) {
    this.state = state;
    this.#hear.state(state, this.#lostSince, why);
  }

  /** No stream: the status is read now and then, and a stream is asked for again later. */
  #refused() {
    this.#close();
    this.#again = setTimeout(() => this.open(), AGAIN);
    this.#polling = setInterval(() => this.#read(), POLL);
    this.#read();
  }

  async #read() {
    try {
      const answer = await fetch('api/v1/status', { cache: 'no-store', signal: AbortSignal.timeout(SILENT) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const status = await answer.json();
      this.#lastNews = Date.now();
      this.#lostSince = null;
      this.#hear.history(status.history);
      this.#hear.status(status);
      this.#tell('polling');
    } catch {
      this.#lost('it does not answer');
    }
  }

  #watch() {
    const silent = Date.now() - this.#lastNews;
    if (this.#hidden !== null || this.#source === null) return;
    if (silent > DEAD) { this.#lost('no news'); this.open(); }
    else if (silent > SILENT) this.#lost('no news');
    else if (this.#lostSince !== null) this.#lost('the connection broke');
  }

  /** A page that nobody sees gives its stream to others: there are only so many. */
  #visibility() {
    clearTimeout(this.#hidden);
    this.#hidden = null;
    if (document.hidden) {
      this.#hidden = setTimeout(() => this.#close(), UNSEEN);
    } else if (this.#source === null && this.#polling === null) {
      this.open();
    }
  }
}
