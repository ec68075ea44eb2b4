// The page of Lyftr: a window on its inbox. It reads the HTTP interface (docs/http-api.md) and changes nothing.
//
// Whatever people wrote reaches the document as text nodes only. The address holds the whole state of what is shown.

const PAGE_ROWS = 50;
const PAGES_MAX = 10;
const NEW_MAX = 1000;
const RETRY_FIRST_MS = 2_000;
const RETRY_MAX_MS = 10_000;
const TYPING_MS = 250;
const OVERVIEW_EVERY_MS = 30_000;
const RECENT_EVENTS = 1000;
const RELATED_MAX = 500;
const BUILT_IN = 'webhook';
const KINDS = ['message', 'status', 'reaction', 'edit', 'revoke', 'system', 'echo', 'history', 'call', 'event', 'malformed'];

// ---------------------------------------------------------------------------------------------------- Elements

/** The element with this id, which index.html has. */
const $ = (id) => document.getElementById(id);

/** Makes an element. A function among the attributes listens to the event of its name; null and false are left out. */
function h(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same for a part of a picture. */
function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function announce(text) {
  $('announce').textContent = text;
}

/** Runs `change`, and keeps the first visible row of the list where it is on the screen. */
function keepInPlace(change) {
  const row = [...$('list').children].find((each) => each.getBoundingClientRect().bottom > 0);
  const before = row?.getBoundingClientRect().top;
  change();
  if (row?.isConnected) window.scrollBy(0, row.getBoundingClientRect().top - before);
}

// ---------------------------------------------------------------------------------------------------- Time

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const dayOfYear = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

/** An instant in the zone of the reader: the time, and the day unless it is today. */
function localTime(date) {
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return clock.format(date);
  return `${(date.getFullYear() === now.getFullYear() ? day : dayOfYear).format(date)} ${clock.format(date)}`;
}

/** The instant of an API's `ts`, or null where the provider wrote something else. */
function instantOf(ts) {
  const date = new Date(ts ?? NaN);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** A `<time>`: the reader's zone, and UTC beside it. */
function timeElement(ts) {
  const date = instantOf(ts);
  if (!date) return h('span', { class: 'time' }, ts ?? 'no time');
  const utc = date.toISOString().slice(11, 19);
  return h('time', { class: 'time', datetime: date.toISOString(), title: ts },
    localTime(date), h('span', { class: 'utc' }, `${utc} UTC`));
}

/** What sorts instants of the form of `ts` as time, down to the nanosecond. */
function sortKey(ts) {
  const [, seconds, fraction = ''] = /^(.{19})(?:\.(\d+))?Z$/.exec(ts) ?? [null, ts];
  return seconds + fraction.padEnd(9, '0');
}

/** An instant as the API takes it, without a fraction. */
function instant(ms) {
  return `${new Date(ms).toISOString().slice(0, -5)}Z`;
}

/** The value of a `datetime-local` input for an instant of the address, and the way back. */
function toInput(ts) {
  const date = instantOf(ts);
  return date ? new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19) : '';
}

function fromInput(value) {
  return value ? instant(new Date(value).getTime()) : '';
}

// ---------------------------------------------------------------------------------------------------- Requests

/** A request that failed, with what the server said in words for people. Status 0: there was no response. */
class Failure extends Error {
  constructor(status, words, retryAfterSecs = null) {
    super(words);
    this.status = status;
    this.retryAfterSecs = retryAfterSecs;
  }

  /** Whether the same request may succeed later, without anybody's doing. */
  get passes() {
    return this.status === 0 || this.status >= 500;
  }

  static async of(response) {
    const body = await response.json().catch(() => ({}));
    const detail = Array.isArray(body.detail)
      ? body.detail.map((item) => `${item.loc.at(-1)}: ${item.msg}`).join('; ')
      : body.detail;
    const retryAfter = Number.parseInt(response.headers.get('Retry-After'), 10);
    return new Failure(response.status, detail ?? `Lyftr answered ${response.status}.`, retryAfter || null);
  }
}

/** Sends a request; gives the text of a good response and throws a Failure for any other. */
async function request(path, init = {}) {
  try {
    const response = await fetch(path, init);
    if (response.headers.has('Lyftr-Session')) $('sign-out').hidden = false;
    if (!response.ok) throw await Failure.of(response);
    return await response.text();
  } catch (error) {
    if (error instanceof Failure || init.signal?.aborted) throw error;
    throw new Failure(0, 'Lyftr cannot be reached.');
  }
}

/** A path with those parameters that have a value. */
function pathOf(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function getJson(path, parameters, signal) {
  return JSON.parse(await request(pathOf(path, parameters), { signal }));
}

const aborts = new Map();

/** Ends what is still being asked for a part of the page, so that a late response never overwrites a newer view. */
function supersede(part) {
  aborts.get(part)?.abort();
  aborts.set(part, new AbortController());
  return aborts.get(part).signal;
}

/** The delay before each try: 2 s, growing to 10 s. */
class Backoff {
  #delay = RETRY_FIRST_MS;
  #timer = 0;

  after(run, atLeastSecs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, Math.max(this.#delay, (atLeastSecs ?? 0) * 1000));
    this.#delay = Math.min(this.#delay * 1.5, RETRY_MAX_MS);
  }

  reset() {
    clearTimeout(this.#timer);
    this.#delay = RETRY_FIRST_MS;
  }
}

// ---------------------------------------------------------------------------------------------------- The address

const FILTERS = ['q', 'from', 'to', 'source', 'kind', 'since', 'until'];

/**
 * What the address names.
 * @typedef {{view: string, range: string, q: string, from: string, to: string, source: string, kind: string,
 *   since: string, until: string, open: string}} View
 */

/** @returns {View} */
function viewOf(search) {
  const given = new URLSearchParams(search);
  const view = { view: given.get('view') === 'overview' ? 'overview' : '', range: given.get('range') ?? '' };
  for (const name of [...FILTERS, 'open']) view[name] = given.get(name) ?? '';
  view.from = view.from.replace(/^ /, '+');
  view.to = view.to.replace(/^ /, '+');
  if (view.kind === 'message') view.kind = '';
  return view;
}

function hrefOf(view) {
  return pathOf('/', view);
}

/** The address of an event by itself, or within a view. */
function hrefOfEvent(source, key, within = {}) {
  return hrefOf({ ...within, open: `${source}/${key}` });
}

/** @returns {{source: string, key: string} | null} The event that a view opens. */
function openOf(view) {
  const slash = view.open.indexOf('/');
  return slash > 0 ? { source: view.open.slice(0, slash), key: view.open.slice(slash + 1) } : null;
}

function hasFilters(view) {
  return FILTERS.some((name) => view[name]);
}

const cleared = Object.fromEntries(FILTERS.map((name) => [name, '']));

/** The list of messages has filters that the log of everything has not. */
function listsMessages(view) {
  return !view.kind;
}

function filtersOfEvents({ source, from, to, kind }) {
  return { source, from, to, kind: kind === 'any' ? '' : kind || 'message' };
}

function filtersOfMessages({ q, from, to, source, since, until }) {
  return { q, from, to, source, since, until };
}

let view = viewOf(location.search);

function navigate(change, { replace = false } = {}) {
  const next = { ...view, ...change };
  history[replace ? 'replaceState' : 'pushState'](null, '', hrefOf(next));
  show(next);
}

// ---------------------------------------------------------------------------------------------------- JSON as it was sent

/**
 * A JSON value with its text: numbers are not rounded, keys keep their order, repeated keys stay.
 * @typedef {{type: 'object'|'array'|'string'|'other', text: string, value: (string|undefined),
 *   members: (Array<[string|number, JsonNode]>|undefined)}} JsonNode
 */

/** @returns {JsonNode} The value that a valid JSON text holds. */
function readJson(text) {
  let at = 0;

  function token(pattern) {
    pattern.lastIndex = at;
    const found = pattern.exec(text)[0];
    at = pattern.lastIndex;
    return found;
  }

  function separated(close, member) {
    const members = [];
    token(/.\s*/ys);
    while (text[at] !== close) {
      members.push(member(members.length));
      token(/\s*,?\s*/y);
    }
    at += 1;
    return members;
  }

  function string() {
    return JSON.parse(token(/"[^"\\]*(?:\\.[^"\\]*)*"/y));
  }

  function value() {
    const start = at;
    const node = { type: 'other' };
    if (text[at] === '{') {
      node.type = 'object';
      node.members = separated('}', () => {
        const name = string();
        token(/\s*:\s*/y);
        return [name, value()];
      });
    } else if (text[at] === '[') {
      node.type = 'array';
      node.members = separated(']', (index) => [index, value()]);
    } else if (text[at] === '"') {
      node.type = 'string';
      node.value = string();
    } else {
      token(/[^\s,\]}]+/y);
    }
    node.text = text.slice(start, at);
    return node;
  }

  token(/\s*/y);
  return value();
}

/** The member of an object with this name. */
function member(node, name) {
  return node.members.find(([each]) => each === name)?.[1];
}

const TREE_MEMBERS = 200;

/** A value as a tree that unfolds. Branches are made when they are unfolded, and long ones in pieces. */
function treeOf(node, name = null, depth = 0) {
  const label = name === null ? [] : [h('span', { class: 'name', dir: 'auto' }, String(name)), ': '];
  if (node.type === 'string') return h('div', {}, ...label, h('span', { class: 'string', dir: 'auto' }, node.value));
  if (node.type === 'other') return h('div', {}, ...label, h('span', { class: 'other' }, node.text));
  const count = node.members.length;
  const size = node.type === 'array' ? `[${count}]` : `{${count}}`;
  if (!count) return h('div', {}, ...label, h('span', { class: 'other' }, size));
  const branch = h('details', {}, h('summary', {}, ...label, h('span', { class: 'size' }, size)));
  branch.addEventListener('toggle', () => unfold(branch, node.members, depth), { once: true });
  branch.open = depth < 3 && count <= 50;
  return branch;
}

function unfold(branch, members, depth) {
  for (const [name, node] of members.slice(0, TREE_MEMBERS)) branch.append(treeOf(node, name, depth + 1));
  const rest = members.slice(TREE_MEMBERS);
  if (!rest.length) return;
  const more = h('button', { type: 'button', click: () => { more.remove(); unfold(branch, rest, depth); } },
    `${rest.length} more`);
  branch.append(more);
}

// ---------------------------------------------------------------------------------------------------- Signing in

const signIn = {
  show() {
    live.stop();
    overview.stop();
    closeHelp();
    $('sign-out').hidden = true;
    for (const id of ['inbox', 'overview', 'filters', 'error']) $(id).hidden = true;
    $('connection').textContent = '';
    $('insecure').hidden = window.isSecureContext;
    $('sign-in').hidden = false;
    $('token').focus();
  },

  async submit() {
    $('sign-in-error').textContent = '';
    try {
      await request('/session', { method: 'POST', body: new URLSearchParams({ token: $('token').value }) });
      $('sign-in').reset();
      refresh();
    } catch (failure) {
      $('sign-in-error').textContent = inWords(failure);
      $('token').select();
    }
  },

  async leave() {
    try {
      await request('/session', { method: 'DELETE' });
      forgetWhatIsShown();
      signIn.show();
    } catch (failure) {
      showError(failure, signIn.leave);
    }
  },
};

/** After signing out nothing of the messages stays in the document. */
function forgetWhatIsShown() {
  supersede('list');
  inbox.clear();
  detail.clear();
  overview.clear();
}

function inWords(failure) {
  const wait = failure.retryAfterSecs ? ` Try again in ${failure.retryAfterSecs} s.` : '';
  return failure.message.replace(/\.?$/, '.') + wait;
}

/**
 * Deals with what was thrown: nothing for a request that was given up, the form for a 401, else `tell`.
 * @param {(failure: Failure) => void} tell
 */
function handle(error, tell) {
  if (error.name === 'AbortError') return;
  if (!(error instanceof Failure)) throw error;
  if (error.status === 401) signIn.show();
  else tell(error);
}

function showError(failure, again) {
  $('error').replaceChildren(inWords(failure), ' ', tryAgain(again));
  $('error').hidden = false;
}

function tryAgain(again) {
  return h('button', { type: 'button', click: again }, 'Try again');
}

// ---------------------------------------------------------------------------------------------------- Live

/** Says whether what is shown is what is there. Nobody reads a state that is not true. */
const connection = {
  lostSince: null,

  say(text, state) {
    this.lostSince = null;
    $('connection').textContent = text;
    $('connection').dataset.state = state;
  },

  lost() {
    if (!this.lostSince) {
      this.lostSince = new Date();
      announce('Not connected');
    }
    $('connection').textContent = `Not connected since ${clock.format(this.lostSince)}; trying again`;
    $('connection').dataset.state = 'lost';
  },
};

/** Follows the log from a position on, through whatever happens to the connection. */
const live = {
  /** @type {EventSource|null} */
  stream: null,
  /** Null while there is nothing to follow. */
  filters: null,
  position: null,
  backoff: new Backoff(),

  start(position, filters) {
    this.stop();
    this.position = position;
    this.filters = filters;
    this.resume();
  },

  stop() {
    this.pause();
    this.filters = null;
  },

  pause() {
    supersede('live');
    this.backoff.reset();
    this.stream?.close();
    this.stream = null;
  },

  resume() {
    if (!this.filters || document.hidden) return;
    this.pause();
    if (!connection.lostSince) connection.say('Connecting…', 'connecting');
    this.open();
  },

  open() {
    const stream = new EventSource(pathOf('/events', { after: this.position, ...this.filters }));
    this.stream = stream;
    stream.addEventListener('open', () => {
      this.backoff.reset();
      connection.say('Live', 'live');
    });
    stream.addEventListener('error', () => this.fail(stream));
    for (const kind of KINDS) {
      stream.addEventListener(kind, ({ lastEventId, data }) => {
        this.position = lastEventId;
        inbox.arrived(JSON.parse(data));
      });
    }
  },

  /** The browser does not tell why a stream ended, so a page of the log is asked for before the next try. */
  fail(stream) {
    stream.close();
    if (stream !== this.stream) return;
    this.stream = null;
    connection.lost();
    this.backoff.after(() => this.probe());
  },

  async probe() {
    try {
      await request(pathOf('/events', { after: this.position, ...this.filters, limit: 1 }), { signal: supersede('live') });
      this.open();
    } catch (error) {
      handle(error, (failure) => {
        if (failure.passes) this.backoff.after(() => this.probe(), failure.retryAfterSecs);
        else inbox.load();
      });
    }
  },
};

// ---------------------------------------------------------------------------------------------------- The inbox

/**
 * A message or another event, as a row shows it.
 * @typedef {{source: string, key: string, kind: string, type: (string|null), from: (string|null), to: (string|null),
 *   ts: (string|null), text: (string|null), position: (string|undefined)}} Item
 */

/** @returns {Item} */
function itemOf(row) {
  if ('message_id' in row) return { source: BUILT_IN, kind: 'message', type: null, ...row, key: row.message_id };
  return { ...row, ts: row.ts ?? row.received_at };
}

/**
 * A page of the list, newest first, and the parameters that lead on from it in both directions; null at an end.
 * @typedef {{items: Item[], newer: (object|null), older: (object|null), total: (number|undefined)}} Page
 */

/** @returns {Promise<Page>} */
function fetchPage(view, place, signal) {
  return listsMessages(view) ? pageOfMessages(view, place, signal) : pageOfEvents(view, place, signal);
}

async function pageOfMessages(view, place, signal) {
  const parameters = { ...filtersOfMessages(view), order: 'desc', limit: PAGE_ROWS, ...place };
  const page = await getJson('/messages', parameters, signal);
  const at = (cursor) => cursor && { cursor };
  return { items: page.data.map(itemOf), newer: at(page.prev), older: at(page.next), total: page.total };
}

async function pageOfEvents(view, place, signal) {
  let from = place ?? { before: 'now' };
  const forwards = 'after' in from;
  let page;
  do {
    page = await getJson('/events', { ...filtersOfEvents(view), limit: PAGE_ROWS, ...from }, signal);
    from = forwards ? { after: page.next } : { before: page.next };
  } while (!page.data.length && !page.end);
  const items = page.data.map(itemOf);
  if (forwards) items.reverse();
  const onward = page.end ? null : from;
  if (!items.length) return { items, newer: null, older: null };
  if (forwards) return { items, newer: onward, older: { before: items.at(-1).position } };
  return { items, newer: place && { after: items[0].position }, older: onward };
}

/** The text of an item as an element: what a person wrote, or in a quieter style what there is instead. */
function textElement({ text, type, kind }) {
  const quiet = (words) => h('span', { class: 'text quiet' }, words);
  if (text === null) return quiet(type ?? (kind === 'message' ? 'no text' : kind));
  if (text === '') return quiet('empty text');
  if (/^[\p{C}\p{Z}\s\u2800\u3164]*$/u.test(text)) return quiet(`blank text, ${[...text].length} characters`);
  return h('span', { class: 'text', dir: 'auto' }, text);
}

function personElement(name) {
  return name === null ? h('span', { class: 'quiet' }, 'nobody named') : h('bdi', {}, name);
}

function rowOf(item) {
  const open = `${item.source}/${item.key}`;
  const link = h('a', { href: hrefOf({ ...view, open }), 'aria-current': view.open === open && 'true' },
    timeElement(item.ts),
    h('span', { class: 'people' },
      h('span', {}, personElement(item.from)), h('span', {}, h('span', { class: 'quiet' }, '→ '), personElement(item.to))),
    textElement(item),
    h('span', { class: 'origin' }, h('span', {}, item.source), h('span', { class: 'kind' }, item.kind)));
  return h('li', { 'data-source': item.source, 'data-key': item.key, 'data-kind': item.kind }, link);
}

/** Unicode's case folding, as near as a browser has it. */
function fold(text) {
  return text.toUpperCase().toLowerCase().replaceAll('ς', 'σ');
}

/** Whether an event that came through the stream passes the filters that the stream does not have. */
function passes({ text, ts }, { q, since, until }) {
  if (q && !fold(text ?? '').includes(fold(q))) return false;
  if (since && sortKey(ts) < sortKey(since)) return false;
  return !until || sortKey(ts) < sortKey(until);
}

/** The list: at most ten pages of it are in the document, around what is being read. */
const inbox = {
  /** @type {Array<{rows: HTMLElement[], newer: (object|null), older: (object|null)}>} */
  pages: [],
  /** What arrived since the list was read: `source/key` of each. */
  arrivals: new Set(),
  extending: false,
  backoff: new Backoff(),

  clear() {
    this.pages = [];
    this.arrivals.clear();
    $('list').replaceChildren();
    $('empty').hidden = true;
    $('newer').replaceChildren();
    $('more').replaceChildren();
    showNew();
  },

  /** Reads the first page, and follows the log from where it ended before that. */
  async load() {
    const signal = supersede('list');
    this.backoff.reset();
    this.extending = false;
    live.stop();
    $('error').hidden = true;
    $('more').textContent = 'Loading…';
    if (!connection.lostSince) connection.say('Connecting…', 'connecting');
    try {
      const position = (await getJson('/events', { before: 'now', limit: 1 }, signal)).data[0]?.position;
      const page = await fetchPage(view, null, signal);
      this.clear();
      this.extend(page, 'older');
      window.scrollTo(0, 0);
      this.describe(page);
      live.start(position, filtersOfEvents(view));
    } catch (error) {
      handle(error, (failure) => this.fail(failure));
    }
  },

  fail(failure) {
    $('more').replaceChildren();
    if (failure.passes) {
      connection.lost();
      this.backoff.after(() => this.load(), failure.retryAfterSecs);
    } else {
      connection.say('', '');
      this.clear();
    }
    showError(failure, () => this.load());
  },

  describe({ items, total }) {
    const words = total === undefined ? 'Newest first' : `${total.toLocaleString('en')} message${total === 1 ? '' : 's'}`;
    $('listing-title').textContent = words;
    if (!items.length) showEmpty();
    announce(items.length ? words : 'Nothing here');
  },

  /** Adds a page at one end of the list, and drops one at the other end if there are too many. */
  extend(page, towards) {
    const rows = page.items.map(rowOf);
    for (const { source, key } of page.items) this.arrivals.delete(`${source}/${key}`);
    const { newer, older } = page;
    if (towards === 'older') {
      $('list').append(...rows);
      this.pages.push({ rows, newer, older });
      if (this.pages.length > PAGES_MAX) this.pages.shift().rows.forEach((row) => row.remove());
    } else {
      $('list').prepend(...rows);
      this.pages.unshift({ rows, newer, older });
      if (this.pages.length > PAGES_MAX) this.pages.pop().rows.forEach((row) => row.remove());
    }
    $('newer').textContent = this.pages[0].newer ? 'Loading…' : '';
    $('more').textContent = this.pages.at(-1).older ? 'Loading…' : 'That is all';
    if (!$('list').hasChildNodes()) $('more').textContent = '';
    showNew();
    watch($('newer'));
    watch($('more'));
  },

  /** Reads on at one end of the list, since the reader comes near it. */
  async readOn(towards) {
    const place = towards === 'older' ? this.pages.at(-1)?.older : this.pages[0]?.newer;
    if (!place || this.extending) return;
    this.extending = true;
    const signal = aborts.get('list').signal;
    try {
      const page = await fetchPage(view, place, signal);
      keepInPlace(() => this.extend(page, towards));
    } catch (error) {
      handle(error, (failure) => {
        const again = tryAgain(() => this.readOn(towards));
        $(towards === 'older' ? 'more' : 'newer').replaceChildren(inWords(failure), ' ', again);
      });
    } finally {
      if (!signal.aborted) this.extending = false;
    }
  },

  arrived(row) {
    const item = itemOf(row);
    if (listsMessages(view) && !passes(item, view)) return;
    if (this.row(item)) return;
    if (!$('list').hasChildNodes()) {
      this.load();
      return;
    }
    if (this.arrivals.size < NEW_MAX) this.arrivals.add(`${item.source}/${item.key}`);
    showNew();
  },

  row({ source, key }) {
    return [...$('list').children].find((row) => row.dataset.key === key && row.dataset.source === source);
  },

  /** Marks the row that is open beside the list, and lets each row keep the rest of the address. */
  mark() {
    for (const row of $('list').children) {
      const open = `${row.dataset.source}/${row.dataset.key}`;
      if (open === view.open) row.firstChild.setAttribute('aria-current', 'true');
      else row.firstChild.removeAttribute('aria-current');
    }
  },
};

function showNew() {
  const count = inbox.arrivals.size;
  $('new').hidden = count === 0;
  $('new').textContent = `${count === NEW_MAX ? `${count} or more` : count} new`;
  document.title = count ? `(${count}) Lyftr` : 'Lyftr';
  if (count) announce(`${count} new`);
}

function showEmpty() {
  const filtered = hasFilters(view);
  const clear = h('button', { type: 'button', click: () => navigate(cleared) }, 'Clear the filters');
  const lines = "export WEBHOOK_SECRET=…   # the secret of this server\n"
    + `lyftr send --url ${location.origin} --text 'Hello'`;
  $('empty').replaceChildren(...filtered
    ? [h('h2', {}, 'Nothing matches'), h('p', {}, 'No message or event passes all of these filters.'), clear]
    : [h('h2', {}, 'Nothing has arrived yet'),
      h('p', {}, 'Send the first message from a terminal. It appears here by itself.'),
      h('pre', { tabindex: 0 }, lines)]);
  $('empty').hidden = false;
}

/** The ends of the list ask for more when they come near. */
const edges = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) inbox.readOn(target.id === 'more' ? 'older' : 'newer');
  }
}, { rootMargin: '800px 0px' });

/** Watches an end of the list anew: an observer tells of changes only, and the end may still be near. */
function watch(edge) {
  edges.unobserve(edge);
  edges.observe(edge);
}

// ---------------------------------------------------------------------------------------------------- Detail

const FIELDS = ['text', 'from', 'to', 'ts', 'received_at', 'source', 'kind', 'type', 'key', 'ref', 'thread', 'user_id',
  'account', 'position'];

/** Puts in single quotes what a shell must take as it is. */
function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fieldValue(name, event) {
  const value = event[name];
  const link = (href) => h('a', { href, dir: 'auto' }, value);
  if (value === null) return h('span', { class: 'quiet' }, '—');
  if (name === 'text') return value.trim() ? value : textElement(event);
  if (name === 'from' || name === 'to') return link(hrefOf({ [name]: value }));
  if (name === 'ref' && value !== event.key) return link(hrefOfEvent(event.source, value));
  if ((name === 'ts' || name === 'received_at') && instantOf(value)) {
    return h('time', { datetime: value }, `${localTime(instantOf(value))} `, h('span', { class: 'utc' }, value));
  }
  return value;
}

/** The event that is open beside the list. */
const detail = {
  raw: '',
  /** The row or link that had the focus before. */
  opener: null,

  clear() {
    supersede('detail');
    $('detail').hidden = true;
    this.raw = '';
    for (const id of ['fields', 'related', 'conversation', 'tree', 'raw', 'detail-state']) $(id).replaceChildren();
  },

  async load() {
    const opened = openOf(view);
    if (!opened) return;
    this.clear();
    const signal = aborts.get('detail').signal;
    $('detail-body').hidden = true;
    $('detail').hidden = false;
    $('detail').scrollTop = 0;
    $('detail-state').textContent = 'Loading…';
    try {
      const text = await request(pathOf('/events', { ...opened, limit: 1 }), { signal });
      const node = member(readJson(text), 'data').members[0]?.[1];
      if (!node) {
        $('detail-state').textContent = 'No event has this key here. It may have been erased.';
        return;
      }
      $('detail-state').textContent = '';
      $('detail-body').hidden = false;
      this.fill(node);
      const event = JSON.parse(node.text);
      await Promise.all([showRelated(event, signal), conversation.load(event, signal)]);
    } catch (error) {
      handle(error, (failure) => {
        $('detail-state').replaceChildren(inWords(failure), ' ', tryAgain(() => this.load()));
      });
    }
  },

  /** @param {JsonNode} node */
  fill(node) {
    const event = JSON.parse(node.text);
    const data = member(node, 'data');
    this.raw = node.text;
    $('detail-title').textContent = event.kind === 'message' ? 'Message' : `Event: ${event.kind}`;
    $('fields').replaceChildren(...FIELDS.flatMap((name) => [
      h('dt', {}, name), h('dd', { 'data-field': name, dir: 'auto' }, fieldValue(name, event))]));
    $('link').href = hrefOfEvent(event.source, event.key);
    $('data-section').hidden = data.text === 'null';
    $('tree').replaceChildren(treeOf(data));
    $('raw').textContent = data.text;
    $('raw-box').open = data.text.length < 20_000;
  },

  /** Gives the focus back to where it was before the detail opened. */
  close() {
    const { opener } = this;
    const row = inbox.row(openOf(view) ?? {});
    navigate({ open: '' });
    (row?.firstChild ?? (opener?.isConnected ? opener : $('content'))).focus({ preventScroll: true });
  },

  curl() {
    const url = new URL(pathOf('/events', { ...openOf(view), limit: 1 }), location.origin);
    const token = $('sign-out').hidden ? '' : ' -H "Authorization: Bearer $READ_TOKEN"';
    return `curl -s ${shellQuoted(url.href)}${token}`;
  },
};

/** Shows in their order the statuses, edits and reactions that refer to the same object. */
async function showRelated(event, signal) {
  const rows = [];
  let page = { next: null };
  $('related-state').textContent = 'Loading…';
  try {
    do {
      const parameters = { source: event.source, ref: event.ref ?? event.key, after: page.next, limit: 100 };
      page = await getJson('/events', parameters, signal);
      rows.push(...page.data);
    } while (!page.end && rows.length < RELATED_MAX);
    const others = rows.filter(({ key }) => key !== event.key);
    $('related').replaceChildren(...others.map(relatedRow));
    $('related-state').textContent = others.length ? '' : 'Nothing so far.';
    if (!page.end) $('related-state').textContent = `There is more than these ${rows.length}.`;
  } catch (error) {
    handle(error, (failure) => {
      $('related-state').replaceChildren(inWords(failure), ' ', tryAgain(() => showRelated(event, signal)));
    });
  }
}

function relatedRow(row) {
  const item = itemOf(row);
  return h('li', { 'data-key': item.key, 'data-kind': item.kind },
    h('a', { href: hrefOfEvent(item.source, item.key, view) },
      timeElement(item.ts), h('span', { class: 'kind' }, item.kind),
      h('span', { class: 'text', dir: 'auto' }, [item.type, item.text].filter(Boolean).join(': '))));
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
  } catch {
    // Without HTTPS a page has no clipboard, and a selection is what can be copied.
    const area = h('textarea', { class: 'unseen', 'aria-label': what });
    area.value = text;
    document.body.append(area);
    area.select();
    announce(document.execCommand('copy') ? `${what} copied` : 'The browser did not let it be copied');
    area.remove();
  }
}

// ---------------------------------------------------------------------------------------------------- Conversation

async function* messagesOf(parameters, signal) {
  let cursor = '';
  do {
    const page = await getJson('/messages', { ...parameters, limit: PAGE_ROWS, cursor }, signal);
    yield* page.data.map(itemOf);
    cursor = page.next;
  } while (cursor);
}

/** Merges streams of items, each of which is in the order of `sign`: 1 for oldest first, -1 for newest first. */
async function* merged(streams, sign) {
  const heads = await Promise.all(streams.map((stream) => stream.next()));
  const rank = ({ ts, key }) => `${sortKey(ts)} ${key}`;
  for (;;) {
    let first = -1;
    heads.forEach((head, i) => {
      const precedes = first < 0 || (rank(head.value ?? heads[first].value) < rank(heads[first].value)) === (sign > 0);
      if (!head.done && precedes) first = i;
    });
    if (first < 0) return;
    yield heads[first].value;
    heads[first] = await streams[first].next();
  }
}

/** Takes the next few items of a stream. */
async function take(stream, count) {
  const items = [];
  while (items.length < count) {
    const { value, done } = await stream.next();
    if (done) break;
    items.push(value);
  }
  return items;
}

/** What two people said to each other through one source, around the message that is open. */
const conversation = {
  opened: null,
  signal: null,
  earlier: null,
  later: null,

  async load(event, signal) {
    const { from, to, source, kind } = event;
    const ts = event.ts ?? event.received_at;
    const hasTwo = from !== null && to !== null && instantOf(ts) !== null;
    $('conversation-section').hidden = !hasTwo;
    if (!hasTwo) return;
    this.opened = event;
    this.signal = signal;
    const border = instant(Math.floor(instantOf(ts) / 1000) * 1000 + 1000);
    const pairs = from === to ? [{ from, to }] : [{ from, to }, { from: to, to: from }];
    const streams = (parameters) => pairs.map((pair) => messagesOf({ ...pair, source, ...parameters }, signal));
    this.earlier = merged(streams({ order: 'desc', until: border }), -1);
    this.later = merged(streams({ order: 'asc', since: border }), 1);
    await this.extend('earlier');
    await this.extend('later');
    this.reveal();
  },

  async extend(towards) {
    const button = $(towards);
    const list = $('conversation');
    const chat = $('chat');
    button.hidden = false;
    button.disabled = true;
    try {
      const items = await take(this[towards], PAGE_ROWS);
      const rows = items.map((item) => this.row(item));
      const height = chat.scrollHeight;
      if (towards === 'earlier') {
        list.prepend(...rows.reverse());
        chat.scrollTop += chat.scrollHeight - height;
      } else {
        list.append(...rows);
      }
      button.hidden = items.length < PAGE_ROWS;
      button.disabled = false;
    } catch (error) {
      handle(error, (failure) => {
        const again = tryAgain(() => {
          $('conversation').replaceChildren();
          this.load(this.opened, this.signal);
        });
        $('conversation').replaceChildren(h('li', { class: 'quiet' }, inWords(failure), ' ', again));
        button.hidden = true;
      });
    }
  },

  row(item) {
    const { key, from } = this.opened;
    const isOpen = item.key === key;
    const side = item.from === from ? 'theirs' : 'ours';
    return h('li', { 'data-key': item.key, class: side, 'aria-current': isOpen && 'true' },
      h('bdi', { class: 'unseen' }, `${item.from}: `),
      textElement(item),
      h('a', { href: hrefOfEvent(item.source, item.key, view) }, timeElement(item.ts)));
  },

  /** Scrolls the opened message into view within its own box. */
  reveal() {
    const row = $('conversation').querySelector('[aria-current]');
    const chat = $('chat');
    if (row) chat.scrollTop = row.offsetTop - (chat.clientHeight - row.offsetHeight) / 2;
  },
};

// ---------------------------------------------------------------------------------------------------- Overview

const HOUR = 3600;
const DAY = 24 * HOUR;
const STEPS = { '1m': 60, '5m': 300, '15m': 900, '1h': HOUR, '6h': 6 * HOUR, '1d': DAY, '7d': 7 * DAY, '30d': 30 * DAY };
const STEPS_MAX = 499;
const BARS_MAX = 120;
const RANGES = { hour: HOUR, day: DAY, week: 7 * DAY, month: 30 * DAY, year: 364 * DAY, all: Infinity };

/** The step that gives enough bars to see something, and not too many. */
function stepFor(seconds) {
  return Object.keys(STEPS).find((step) => seconds / STEPS[step] <= BARS_MAX) ?? '30d';
}

/**
 * The time that the picture shows, in Unix seconds.
 * @returns {{since: number, until: number, step: string}}
 */
function boundsOf(view, stats, now) {
  const seconds = (ts) => Math.floor((instantOf(ts)?.getTime() ?? NaN) / 1000);
  const first = seconds(stats.first_message_ts ?? instant(now * 1000));
  const last = seconds(stats.last_message_ts ?? instant(now * 1000));
  const length = RANGES[rangeOf(view)];
  const until = view.until ? seconds(view.until) : length === Infinity ? last + 1 : now;
  const since = view.since ? seconds(view.since) : length ? Math.max(until - length, Math.min(first, until)) : first;
  const given = length && length !== Infinity ? until - length : since;
  const step = stepFor(until - given);
  return { since: Math.max(given, until - STEPS_MAX * STEPS[step]), until, step };
}

/** The chosen range; none where the address has a time range of its own. */
function rangeOf(view) {
  if (view.since || view.until) return '';
  return view.range in RANGES ? view.range : 'day';
}

/** The value of a metric, summed over those of its samples that have the label; null if there is none. */
function metric(page, name, label = '') {
  const samples = page.split('\n').filter((line) => /^[{ ]/.test(line.slice(name.length)) && line.startsWith(name));
  const values = samples.filter((line) => line.includes(label)).map((line) => Number(line.slice(line.lastIndexOf(' '))));
  return values.length ? values.reduce((sum, value) => sum + value, 0) : null;
}

function bytes(count) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), units.length - 1);
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

/** The picture of the whole, read again every half minute while one looks at it. */
const overview = {
  timer: 0,
  backoff: new Backoff(),

  stop() {
    clearTimeout(this.timer);
    this.backoff.reset();
    supersede('overview');
  },

  clear() {
    for (const id of ['bars', 'axis', 'senders', 'kinds', 'sources', 'service']) $(id).replaceChildren();
    $('bars-table').tBodies[0].replaceChildren();
  },

  async load() {
    this.stop();
    if (document.hidden) return;
    $('error').hidden = true;
    this.drawRanges();
    const signal = aborts.get('overview').signal;
    const stats = getJson('/stats', {}, signal);
    const parts = [
      stats.then(showSenders),
      stats.then((all) => this.loadVolume(all, signal)),
      getJson('/events', { before: 'now', limit: RECENT_EVENTS }, signal).then(showRecent),
      loadService(signal),
    ];
    const failures = (await Promise.allSettled(parts)).filter(({ status }) => status === 'rejected').map(({ reason }) => reason);
    if (signal.aborted) return;
    if (!failures.length) {
      connection.say(`Updated ${clock.format(new Date())}`, 'live');
      this.timer = setTimeout(() => this.load(), OVERVIEW_EVERY_MS);
    } else {
      handle(failures.find(({ status }) => status === 401) ?? failures[0], (failure) => this.fail(failure));
    }
  },

  fail(failure) {
    showError(failure, () => this.load());
    if (!failure.passes) return connection.say('', '');
    connection.lost();
    this.backoff.after(() => this.load(), failure.retryAfterSecs);
  },

  drawRanges() {
    const current = rangeOf(view);
    $('ranges').replaceChildren(...Object.keys(RANGES).map((range) => h('a', {
      'data-range': range,
      href: hrefOf({ ...view, range, since: '', until: '' }),
      'aria-current': range === current && 'true',
    }, range === 'all' ? 'All' : `${range[0].toUpperCase()}${range.slice(1)}`)));
  },

  async loadVolume(stats, signal) {
    const bounds = boundsOf(view, stats, Math.floor(Date.now() / 1000));
    const { from, to, source } = view;
    const time = { since: view.since || instant(bounds.since * 1000), until: view.until || instant(bounds.until * 1000) };
    const volume = await getJson('/stats/volume', { ...time, step: bounds.step, from, to, source }, signal);
    drawVolume(volume, bounds);
  },
};

/** Narrows the view to some steps of the picture. */
function narrow(fromSecs, untilSecs) {
  return { since: instant(fromSecs * 1000), until: instant(untilSecs * 1000), range: '' };
}

function drawVolume({ data, total, step }, bounds) {
  const width = STEPS[step];
  const start = Math.floor(bounds.since / width) * width;
  const columns = Math.max(Math.ceil((bounds.until - start) / width), 1);
  const most = Math.max(...data.map(({ count }) => count), 1);
  const bars = data.map(({ ts, count }) => {
    const height = Math.max((count / most) * 100, 1.5);
    const x = (instantOf(ts) / 1000 - start) / width;
    return svg('rect', { x: x + 0.08, y: 100 - height, width: 0.84, height, 'data-ts': ts, 'data-count': count },
      svg('title', {}, `${localTime(instantOf(ts))}: ${count}`));
  });
  const selection = svg('rect', { class: 'selection', y: 0, height: 100, width: 0 });
  $('bars').setAttribute('viewBox', `0 0 ${columns} 100`);
  $('bars').replaceChildren(selection, ...bars);
  choose = chooserOf(selection, { start, width, columns });
  const moments = [0, 0.5, 1].map((part) => localTime(new Date((start + part * columns * width) * 1000)));
  $('axis').replaceChildren(...moments.map((moment) => h('span', {}, moment)));
  $('volume-state').replaceChildren(
    `${total.toLocaleString('en')} message${total === 1 ? '' : 's'} in steps of ${step}, at most ${most.toLocaleString('en')} in one. `,
    h('a', { href: hrefOf({ ...view, view: '', range: '', ...narrow(bounds.since, bounds.until) }) }, 'Show them in the inbox'));
  $('bars-table').tBodies[0].replaceChildren(...data.map(({ ts, count }) => {
    const from = instantOf(ts) / 1000;
    const link = h('a', { href: hrefOf({ ...view, ...narrow(from, from + width) }) }, localTime(instantOf(ts)));
    return h('tr', {}, h('th', { scope: 'row' }, link), h('td', {}, count.toLocaleString('en')));
  }));
}

/** What a pointer does on the picture that is drawn. */
let choose = () => {};

/** Follows a pointer over the bars: a click takes one step, a drag takes all between. */
function chooserOf(selection, { start, width, columns }) {
  let first = null;
  return ({ type, clientX, pointerId }) => {
    const box = $('bars').getBoundingClientRect();
    const column = Math.min(Math.max(Math.floor(((clientX - box.left) / box.width) * columns), 0), columns - 1);
    if (type === 'pointerdown') {
      first = column;
      $('bars').setPointerCapture(pointerId);
    }
    if (first === null) return;
    const [left, right] = [Math.min(first, column), Math.max(first, column) + 1];
    selection.setAttribute('x', left);
    selection.setAttribute('width', type === 'pointercancel' ? 0 : right - left);
    if (type === 'pointercancel') first = null;
    if (type !== 'pointerup') return;
    first = null;
    navigate(narrow(start + left * width, start + right * width));
  };
}

/** A list of names and how often each is there, most first, with a link to the inbox for each. */
function rank(id, counts, filterOf) {
  const most = Math.max(...counts.map(([, count]) => count), 1);
  $(id).replaceChildren(...counts.map(([name, count]) => {
    const share = h('span', { class: 'share' });
    share.style.width = `${(count / most) * 100}%`;
    return h('li', {}, h('a', { href: hrefOf(filterOf(name)) }, h('bdi', {}, name)), share, h('span', {}, count.toLocaleString('en')));
  }));
}

function showSenders(stats) {
  rank('senders', stats.messages_per_sender.map(({ from, count }) => [from, count]), (from) => ({ from }));
  $('senders-state').textContent = stats.total_messages
    ? `Of ${stats.total_messages.toLocaleString('en')} messages of ${stats.senders_count.toLocaleString('en')} senders, ever.`
    : 'No messages so far.';
}

function showRecent({ data }) {
  const by = (name) => {
    const counts = new Map();
    for (const event of data) counts.set(event[name], (counts.get(event[name]) ?? 0) + 1);
    return [...counts].sort(([, a], [, b]) => b - a);
  };
  const words = data.length ? `Among the newest ${data.length.toLocaleString('en')} events.` : 'No events so far.';
  rank('kinds', by('kind'), (kind) => ({ kind: kind === 'message' ? '' : kind }));
  rank('sources', by('source'), (source) => ({ source, kind: 'any' }));
  $('kinds-state').textContent = words;
  $('sources-state').textContent = words;
}

async function loadService(signal) {
  const [ready, metrics, cursors] = await Promise.all([
    request('/health/ready', { signal }).then(() => 'Ready', (error) => {
      if (error.status !== 503) throw error;
      return `Not ready: ${error.message}`;
    }),
    request('/metrics', { signal }),
    getJson('/cursors', {}, signal),
  ]);
  const refused = metric(metrics, 'webhook_requests_total', 'result="invalid_signature"') ?? 0;
  const disk = metric(metrics, 'store_disk_free_bytes');
  const queue = metric(metrics, 'inbox_queue_messages') ?? 0;
  const queueMax = metric(metrics, 'inbox_queue_messages_max') ?? 0;
  const lags = cursors.data.map(({ name, lag }) => h('div', {}, h('bdi', {}, name), `: ${lag.toLocaleString('en')}`));
  const states = [
    ['ready', 'State', [ready], ready !== 'Ready'],
    ['queue', 'Queue', [`${queue.toLocaleString('en')} of ${queueMax.toLocaleString('en')}`], queue >= queueMax / 2],
    ['refused', 'Refused signatures', [`${refused.toLocaleString('en')} since the start`], false],
    ['lag', 'Cursors, and their lag', lags.length ? lags : ['No cursors'], false],
    ['disk', 'Free disk', [disk === null ? 'Not known here' : bytes(disk)], disk !== null && disk < 1e9],
  ];
  $('service').replaceChildren(...states.flatMap(([state, name, value, isBad]) => [
    h('dt', {}, name), h('dd', { 'data-state': state, class: isBad && 'bad' }, ...value)]));
}

// ---------------------------------------------------------------------------------------------------- The whole

/** @param {View} next Shows what the address names, and reads again only what differs. */
function show(next) {
  const before = view;
  view = next;
  drawFrame();
  const differs = (names) => names.some((name) => before[name] !== next[name]);
  if (differs(['view', 'range', ...FILTERS])) refresh();
  else if (before.open !== next.open) {
    inbox.mark();
    showDetail();
  }
}

/** Reads all that is shown. */
function refresh() {
  $('sign-in').hidden = true;
  drawFrame();
  if (view.view === 'overview') {
    supersede('list');
    live.stop();
    connection.lostSince = null;
    detail.clear();
    overview.load();
  } else {
    overview.stop();
    inbox.load();
    showDetail();
  }
}

function showDetail() {
  if (openOf(view)) detail.load();
  else detail.clear();
  $('inbox').classList.toggle('beside', !$('detail').hidden);
}

/** Draws what does not come from the server: tabs, filters, links. */
function drawFrame() {
  const isOverview = view.view === 'overview';
  const { q, open, ...kept } = view;
  $('filters').hidden = false;
  $('inbox').hidden = isOverview;
  $('overview').hidden = !isOverview;
  for (const [id, isCurrent] of [['tab-inbox', !isOverview], ['tab-overview', isOverview]]) {
    if (isCurrent) $(id).setAttribute('aria-current', 'page');
    else $(id).removeAttribute('aria-current');
  }
  $('tab-inbox').href = hrefOf({ ...view, view: '', range: '', open: isOverview ? '' : open });
  $('tab-overview').href = hrefOf({ ...kept, view: 'overview' });
  drawFilters(isOverview);
  for (const format of ['ndjson', 'csv']) {
    $(`download-${format}`).href = listsMessages(view)
      ? pathOf('/messages', { ...filtersOfMessages(view), order: 'desc', format })
      : pathOf('/events', { ...filtersOfEvents(view), format });
  }
}

function drawFilters(isOverview) {
  for (const name of FILTERS) {
    const isTime = name === 'since' || name === 'until';
    const value = isTime ? toInput(view[name]) : view[name];
    if ($(`f-${name}`).value !== value) $(`f-${name}`).value = value;
    $(`f-${name}`).disabled = !isOverview && !listsMessages(view) && (isTime || name === 'q');
  }
  for (const label of document.querySelectorAll('.inbox-only')) label.hidden = isOverview;
  $('kind-note').hidden = isOverview || listsMessages(view);
  $('clear').disabled = !hasFilters(view);
  const count = FILTERS.filter((name) => name !== 'q' && view[name]).length;
  $('filters-toggle').textContent = count ? `Filters (${count})` : 'Filters';
}

// ---------------------------------------------------------------------------------------------------- Hands

let typing = 0;
/** Whether the newest entry of the history is of the typing that goes on, so that the next letter replaces it. */
let typed = false;

function readFilters() {
  clearTimeout(typing);
  const change = {};
  for (const name of FILTERS) {
    const { value } = $(`f-${name}`);
    change[name] = name === 'since' || name === 'until' ? fromInput(value) : name === 'q' ? value : value.trim();
  }
  if (FILTERS.every((name) => change[name] === view[name])) return;
  navigate(change, { replace: typed });
  typed = true;
}

function moveRow(step) {
  const rows = [...$('list').children];
  const current = rows.indexOf(document.activeElement.closest('#list > li'));
  const firstVisible = rows.findIndex((row) => row.getBoundingClientRect().top >= $('top').getBoundingClientRect().bottom);
  const next = current < 0 ? Math.max(firstVisible, 0) : current + step;
  rows[next]?.firstChild.focus();
}

function closeHelp() {
  if ($('help').open) $('help').close();
}

const KEYS = {
  '/': () => $(view.view === 'overview' ? 'f-from' : 'f-q').focus(),
  j: () => moveRow(1),
  k: () => moveRow(-1),
  ArrowDown: () => moveRow(1),
  ArrowUp: () => moveRow(-1),
  n: () => { if (inbox.arrivals.size) inbox.load(); },
  '?': () => $('help').showModal(),
  Escape: () => { if (!$('detail').hidden) detail.close(); },
};

function pressed(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || $('help').open || !$('sign-in').hidden) return;
  if (target.closest('input, select, textarea')) {
    if (key === 'Escape') target.blur();
    return;
  }
  if (key.startsWith('Arrow') && !target.closest('#list') && target !== document.body) return;
  if (!Object.hasOwn(KEYS, key)) return;
  event.preventDefault();
  KEYS[key]();
}

/** Follows links to other views without loading the page again. */
function followed(event) {
  const link = event.target.closest('a');
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || link.pathname !== '/' || link.hash) return;
  event.preventDefault();
  const opens = viewOf(link.search).open;
  if (opens) detail.opener = link;
  typed = false;
  navigate(viewOf(link.search));
  if (opens) $('detail').focus({ preventScroll: true });
}

async function offerSources() {
  const metrics = await request('/metrics').catch(() => '');
  const names = new Set([BUILT_IN, ...[...metrics.matchAll(/source="([^"]+)"/g)].map(([, name]) => name)]);
  $('known-sources').replaceChildren(...[...names].map((value) => h('option', { value })));
}

function listen() {
  const onClick = (id, run) => $(id).addEventListener('click', run);
  onClick('new', () => inbox.load());
  onClick('close', () => detail.close());
  onClick('clear', () => navigate(cleared));
  onClick('earlier', () => conversation.extend('earlier'));
  onClick('later', () => conversation.extend('later'));
  onClick('copy-json', () => copy(detail.raw, 'JSON'));
  onClick('copy-curl', () => copy(detail.curl(), 'curl command'));
  onClick('sign-out', () => signIn.leave());
  onClick('help-open', () => $('help').showModal());
  onClick('filters-toggle', () => {
    const isOpen = $('filters').classList.toggle('open');
    $('filters-toggle').setAttribute('aria-expanded', isOpen);
  });
  $('sign-in').addEventListener('submit', (event) => {
    event.preventDefault();
    signIn.submit();
  });
  $('filters').addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(readFilters, TYPING_MS);
  });
  $('filters').addEventListener('change', () => {
    readFilters();
    typed = false;
  });
  $('filters').addEventListener('submit', (event) => {
    event.preventDefault();
    readFilters();
  });
  $('f-source').addEventListener('focus', offerSources, { once: true });
  for (const type of ['pointerdown', 'pointermove', 'pointerup', 'pointercancel']) {
    $('bars').addEventListener(type, (event) => choose(event));
  }
  document.addEventListener('click', followed);
  document.addEventListener('keydown', pressed);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      live.pause();
      overview.stop();
    } else if (view.view === 'overview') overview.load();
    else live.resume();
  });
  window.addEventListener('popstate', () => {
    typed = false;
    show(viewOf(location.search));
  });
  new ResizeObserver(() => {
    document.documentElement.style.setProperty('--top', `${$('top').offsetHeight}px`);
  }).observe($('top'));
}

history.scrollRestoration = 'manual';
listen();
refresh();
