// The page of Lyftr: a window on its inbox, by the HTTP interface (docs/http-api.md).
// What people wrote reaches the document as text nodes only, and the address holds the whole state of what is shown.

const YEAR_10000_SECS = 253_402_300_800;
const PAGE_ROWS = 50;
const PAGES_MAX = 10;
const NEW_MAX = 1000;
const RELATED_MAX = 500;
const RECENT_EVENTS = 1000;
const TREE_MEMBERS = 1000;
const RETRY_FIRST_MS = 2_000;
const RETRY_MAX_MS = 10_000;
const TYPING_MS = 250;
const DONE_MS = 2_000;
const OVERVIEW_EVERY_MS = 30_000;
const KINDS = ['message', 'status', 'reaction', 'edit', 'revoke', 'system', 'echo', 'history', 'call', 'event',
	'malformed'];

// ---- Elements

/** The element with this id, which index.html has. */
const $ = (id) => document.getElementById(id);

/** Makes an element, of HTML unless `namespace` says another. An attribute that is null is left out. */
function h(tag, attributes = {}, ...children) {
	const { namespace = 'http://www.w3.org/1999/xhtml', ...rest } = attributes;
	const element = document.createElementNS(namespace, tag);
	for (const [name, value] of Object.entries(rest)) if (value !== null) element.setAttribute(name, value);
	element.append(...children);
	return element;
}

const span = (className, ...children) => h('span', { class: className }, ...children);

const bdi = (text) => h('bdi', {}, text);

/** What people wrote, with the direction of its script. */
const written = (className, text) => h('span', { class: className, dir: 'auto' }, text);

function button(words, run) {
	const element = h('button', {}, words);
	element.addEventListener('click', run);
	return element;
}

/** Replaces what an element holds. */
const fill = (id, ...children) => $(id).replaceChildren(...children);

const announce = (text) => fill('announce', text);

const setCurrent = (element, isCurrent) => { element.ariaCurrent = isCurrent ? 'true' : null; };

const number = (count) => count.toLocaleString('en');

const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? '' : 's'}`;

// ---- Time

function formatOf(options) {
	const format = new Intl.DateTimeFormat('en-GB', options);
	return (date) => format.format(date);
}

const clock = formatOf({ timeStyle: 'medium' });
const minute = formatOf({ day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit' });
const day = formatOf({ dateStyle: 'medium' });
const full = formatOf({ dateStyle: 'medium', timeStyle: 'long' });

/** The instant of a `ts`, or null where the provider wrote something else. */
function dateOf(ts) {
	const date = new Date(ts ?? NaN);
	return Number.isNaN(date.getTime()) ? null : date;
}

/** The time in the zone of the reader, without the day if it is today, and UTC beside it. */
function timeElement(ts) {
	const date = dateOf(ts);
	if (!date) return span('time', ts ?? 'no time');
	const datetime = date.toISOString();
	const isToday = date.toDateString() === new Date().toDateString();
	const utc = span('utc', `${datetime.slice(0, 19).replace('T', ' ')} UTC`);
	return h('time', { class: 'time', datetime, title: ts }, (isToday ? clock : minute)(date), utc);
}

/** An instant as the API takes it, which ends with the year 9999. */
const instant = (secs) => `${new Date(Math.min(secs, YEAR_10000_SECS - 1) * 1000).toISOString().slice(0, -5)}Z`;

const secondsOf = (ts) => Math.floor(dateOf(ts) / 1000);

/** The value of a `datetime-local` input, which is in the zone of the reader. */
function inputOf(ts) {
	const date = dateOf(ts);
	if (!date) return '';
	const local = new Date(date - date.getTimezoneOffset() * 60_000);
	return local.toISOString().slice(0, 19).replace(/(T..:..):00$/, '$1');
}

// ---- Requests

/** A request that failed, and why, in words for people. Without a response the status is 0. */
class Failure extends Error {
	constructor(status, words, retryAfterSecs = 0) {
		super(words);
		this.status = status;
		this.retryAfterSecs = retryAfterSecs;
	}

	static async of(response) {
		const { detail = `Lyftr answered ${response.status}` } = await response.json().catch(() => ({}));
		const words = Array.isArray(detail) ? detail.map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`).join('; ') : detail;
		const wait = Number(response.headers.get('Retry-After')) || 0;
		return new Failure(response.status, wait ? `${words}; wait ${wait} s` : words, wait);
	}

	/** Whether the same request may succeed later. */
	get passes() {
		return this.status === 0 || this.status >= 500;
	}
}

/** The text of a good response; any other throws a Failure. */
async function request(path, init = {}) {
	try {
		const response = await fetch(path, { cache: 'no-store', ...init });
		if (response.headers.has('Lyftr-Session')) $('sign-out').hidden = false;
		if (!response.ok) throw await Failure.of(response);
		return await response.text();
	} catch (error) {
		init.signal?.throwIfAborted();
		throw error instanceof Failure ? error : new Failure(0, 'Lyftr cannot be reached');
	}
}

/** A path with those parameters that have a value. */
function pathOf(path, parameters) {
	const given = Object.entries(parameters).filter(([, value]) => (value ?? '') !== '');
	return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

async function getJson(path, parameters, signal) {
	const text = await request(pathOf(path, parameters), { signal });
	try {
		return JSON.parse(text);
	} catch {
		throw new Failure(0, 'Something else than Lyftr answered');
	}
}

/** What ends the requests of each part of the page. */
const asking = {};

/** Ends the requests of a part, so that a late response never overwrites a newer view. */
function supersede(part) {
	asking[part]?.abort();
	asking[part] = new AbortController();
	return asking[part].signal;
}

/** Runs what sends requests. A 401 asks for the token; other failures are told in the element `id`, with a button. */
async function attempt(id, run, fail = () => {}, again = () => attempt(id, run, fail)) {
	try {
		await run();
	} catch (error) {
		if (error.name === 'AbortError') return;
		if (!(error instanceof Failure)) throw error;
		if (error.status === 401) return signIn.show();
		fill(id, `${error.message}. `, button('Try again', ({ target }) => {
			target.disabled = true;
			again();
		}));
		$(id).hidden = false;
		fail(error);
	}
}

/** Says whether what is shown is what is there. */
const connection = {
	lostSince: null,
	timer: 0,

	say(text, state) {
		this.lostSince = null;
		fill('connection', text);
		$('connection').dataset.state = state;
	},

	connecting() {
		if (!this.lostSince) this.say('Connecting…', 'connecting');
	},

	/** Tries again for ever, later and later. */
	lost({ retryAfterSecs }, again) {
		const now = new Date();
		if (!this.lostSince) {
			this.say(`Not connected since ${clock(now)}; trying again`, 'lost');
			this.lostSince = now;
			announce('Not connected');
		}
		const delay = Math.min(Math.max((now - this.lostSince) / 2, RETRY_FIRST_MS), RETRY_MAX_MS);
		this.stop();
		this.timer = setTimeout(again, Math.max(delay, retryAfterSecs * 1000));
	},

	stop() {
		clearTimeout(this.timer);
	},
};

/** Reads the inbox or the overview, and tries again. What is the `same` as before stays meanwhile. */
function load(part, same = false) {
	connection.stop();
	return attempt('error', async () => {
		await part.read();
		$('error').hidden = true;
	}, (failure) => {
		$('list').ariaBusy = 'false';
		if (!same || !failure.passes) part.clear();
		if (failure.passes) connection.lost(failure, () => load(part, same));
		else connection.say('', '');
	});
}

// ---- The address

const FILTERS = ['q', 'from', 'to', 'source', 'kind', 'since', 'until'];
const NO_FILTERS = Object.fromEntries(FILTERS.map((name) => [name, '']));

/** What the address names; the empty text where it names nothing. */
function viewOf(search) {
	const given = new URLSearchParams(search);
	const view = Object.fromEntries(['view', 'range', ...FILTERS, 'open'].map((name) => [name, given.get(name) ?? '']));
	view.from = view.from.replace(/^ /, '+');
	view.to = view.to.replace(/^ /, '+');
	if (view.view !== 'overview') view.view = '';
	if (view.kind === 'message') view.kind = '';
	return view;
}

const hrefOf = (view) => pathOf('/', view);

const openNameOf = ({ source, key }) => `${source}/${key}`;

/** The event that a view opens. The name of a source has no slash. */
function openedBy({ open }) {
	const slash = open.indexOf('/');
	return { source: open.slice(0, Math.max(slash, 0)), key: open.slice(slash + 1) };
}

const filtersOfMessages = ({ q, from, to, source, since, until }) => ({ q, from, to, source, since, until });

const filtersOfEvents = ({ from, to, source, kind }) => (
	{ from, to, source, kind: kind === 'any' ? '' : kind || 'message' });

/** What is shown. */
let view = viewOf(location.search);

function navigate(change, method = 'pushState') {
	const next = { ...view, ...change };
	history[method](null, '', hrefOf(next));
	show(next);
}

// ---- JSON as it was sent

/** The texts of the one event on a page of the log, and of its `data`, which is its last member. */
function textsOf(page) {
	const event = page.slice(page.indexOf('[') + 1, page.lastIndexOf('],"next":'));
	// Within strings quotes are escaped, so that none of them can be taken for this.
	const name = ',"data":';
	return { event, data: event.slice(event.indexOf(name) + name.length, -1) };
}

/** A number as it was sent, where the browser tells: its value may be rounded. */
class Sent extends String {}

const asSent = (name, value, context) => (typeof value === 'number' ? new Sent(context?.source ?? value) : value);

/** A value as a tree. Branches are made when they are unfolded. */
function treeOf(value, name = null, depth = 0) {
	const label = name === null ? [] : [written('name', name), ': '];
	if (typeof value === 'string') return h('div', {}, ...label, written('text', value));
	const members = value instanceof Sent ? [] : Object.entries(value ?? {});
	const size = members.length;
	if (!size) return h('div', {}, ...label, span('plain', value instanceof Sent ? value : JSON.stringify(value)));
	const sign = Array.isArray(value) ? '[' : '{';
	const branch = h('details', {}, h('summary', {}, ...label, span('plain', `${sign} ${number(size)}`)));
	branch.open = depth < 10 && size <= 50;
	branch.addEventListener('toggle', () => {
		branch.append(...members.slice(0, TREE_MEMBERS).map(([each, member]) => treeOf(member, each, depth + 1)));
		if (size > TREE_MEMBERS) branch.append(`${number(size - TREE_MEMBERS)} more in the raw text`);
	}, { once: true });
	return branch;
}

// ---- Signing in

const signIn = {
	/** Shows the form in the place of everything: nothing that was read stays in the document. */
	show() {
		for (const part of [live, overview, inbox, detail]) part.clear();
		$('help').close();
		connection.say('', '');
		for (const id of ['inbox', 'overview', 'filters', 'error', 'sign-out']) $(id).hidden = true;
		$('insecure').hidden = window.isSecureContext;
		$('sign-in').hidden = false;
		$('token').focus();
	},

	async submit() {
		const button = $('sign-in').querySelector('button');
		// A form whose button is disabled is not sent once more by Enter.
		button.disabled = true;
		fill('sign-in-error');
		try {
			await request('/session', { method: 'POST', body: new URLSearchParams({ token: $('token').value }) });
			$('sign-in').reset();
			refresh();
		} catch (failure) {
			fill('sign-in-error', `${failure.message}.`);
			$('token').select();
		}
		button.disabled = false;
	},

	leave() {
		attempt('error', async () => {
			await request('/session', { method: 'DELETE' });
			signIn.show();
		});
	},
};

// ---- Live

/** Follows the log, through whatever happens to the connection. */
const live = {
	stream: null,
	/** The parameters of `/events` to go on with, if there is something to follow. */
	place: null,

	clear() {
		this.pause();
		this.place = null;
	},

	pause() {
		supersede('live');
		connection.stop();
		this.stream?.close();
	},

	resume() {
		this.pause();
		if (document.hidden) return;
		connection.connecting();
		const stream = new EventSource(pathOf('/events', this.place));
		this.stream = stream;
		stream.addEventListener('open', () => connection.say('Live', 'live'));
		stream.addEventListener('error', () => {
			this.pause();
			connection.lost({ retryAfterSecs: 0 }, () => this.probe());
		});
		const take = ({ lastEventId, data }) => {
			this.place.after = lastEventId;
			inbox.arrived(itemOf(JSON.parse(data)));
		};
		for (const kind of KINDS) stream.addEventListener(kind, take);
	},

	/** Goes on after a pause. A stream does not tell why it ended, but a page of the log does. */
	async probe() {
		this.pause();
		if (document.hidden) return;
		connection.connecting();
		const { signal } = asking.live;
		try {
			let page;
			do {
				page = await getJson('/events', { ...this.place, limit: 1 }, signal);
				// What the filters leave out is looked through once.
				if (!page.data.length) this.place.after = page.next ?? this.place.after;
			} while (!page.data.length && !page.end);
			this.resume();
		} catch (failure) {
			if (signal.aborted) return;
			if (failure.passes) connection.lost(failure, () => this.probe());
			else load(inbox);
		}
	},
};

// ---- The inbox

/** A row of either list as an item: it has the keys of an event, and a time. */
function itemOf(row) {
	if ('message_id' in row) return { source: 'webhook', kind: 'message', ...row, key: row.message_id };
	return { ...row, ts: row.ts ?? row.received_at };
}

/** A page of messages, newest first, with the parameters that lead on at its ends, and the total. */
async function pageOfMessages(place, signal) {
	const parameters = { ...filtersOfMessages(view), order: 'desc', limit: PAGE_ROWS, ...place };
	const { data, prev, next, total } = await getJson('/messages', parameters, signal);
	const at = (cursor) => cursor && { cursor };
	return { items: data.map(itemOf), newer: at(prev), older: at(next), total };
}

async function pageOfEvents(place, signal) {
	let onward = place ?? { before: 'now' };
	const isForwards = 'after' in onward;
	let page;
	do {
		page = await getJson('/events', { ...filtersOfEvents(view), limit: PAGE_ROWS, ...onward }, signal);
		onward = isForwards ? { after: page.next } : { before: page.next };
	} while (!page.data.length && !page.end);
	if (page.end) onward = null;
	const items = page.data.map(itemOf);
	if (!items.length) return { items, newer: null, older: null };
	if (isForwards) return { items: items.reverse(), newer: onward, older: { before: items.at(-1).position } };
	return { items, newer: place && { after: items[0].position }, older: onward };
}

/** What a person wrote or, in a quieter style, what there is instead. */
function textElement({ text, type, kind }) {
	const isBlank = /^[\p{C}\p{Z}\s\u2800\u3164]*$/u.test(text);
	if (text !== null && !isBlank) return written('text', text);
	if (text !== null) return span('text quiet', text ? 'blank text' : 'empty text');
	return span('text quiet', type ?? (kind === 'message' ? 'no text' : kind));
}

/** A row that leads to an item: what stands before the link, and what is in it. */
function rowOf(item, before, ...within) {
	const open = openNameOf(item);
	const link = h('a', { href: hrefOf({ ...view, open }) }, ...within);
	setCurrent(link, open === view.open);
	return h('li', { 'data-source': item.source, 'data-key': item.key }, ...before, link);
}

function listRow(item) {
	return rowOf(item, [],
		timeElement(item.ts),
		span('people', bdi(item.from ?? '—'), span(null, '→ ', bdi(item.to ?? '—'))),
		textElement(item),
		span('origin', span(null, item.source), span('kind', item.kind)));
}

/** Unicode's case folding, as near as a browser has it. */
const fold = (text) => text.toUpperCase().toLowerCase().replaceAll('ς', 'σ');

/** Whether a message passes the filters that streams have not. */
function passes({ text, ts }, { q, since, until }) {
	const date = dateOf(ts);
	if ((since && date < dateOf(since)) || (until && date >= dateOf(until))) return false;
	return !q || fold(text ?? '').includes(fold(q));
}

/** Runs `change`, and keeps the first visible row of the list where it is on the screen. */
function keepInPlace(change) {
	const topOf = (row) => row.getBoundingClientRect().top;
	const row = inbox.rows().findLast((each) => topOf(each) <= 0) ?? inbox.rows()[0];
	const before = topOf(row);
	change();
	window.scrollBy(0, topOf(row) - before);
}

/** The list. At most ten pages of it are in the document, around what is being read. */
const inbox = {
	pages: [],
	/** The names of what arrived since the list was read. */
	arrivals: new Set(),
	isReadingOn: false,

	clear() {
		supersede('list');
		this.pages = [];
		this.arrivals.clear();
		this.isReadingOn = false;
		for (const id of ['list', 'newer', 'more']) fill(id);
		$('empty').hidden = true;
		showNew();
	},

	/** Reads the first page, and follows the log from where it was before that. */
	async read() {
		const signal = supersede('list');
		live.clear();
		connection.connecting();
		$('list').ariaBusy = 'true';
		const log = await getJson('/events', { before: 'now', limit: 1 }, signal);
		const page = await this.fetch(null, signal);
		this.clear();
		this.add(page, 'older');
		this.describe(page);
		window.scrollTo(0, 0);
		live.place = { after: log.data[0]?.position, ...filtersOfEvents(view) };
		live.resume();
	},

	/** Messages have a list of their own, with filters that the log has not. */
	fetch(place, signal) {
		return view.kind ? pageOfEvents(place, signal) : pageOfMessages(place, signal);
	},

	describe({ items, total }) {
		const isFiltered = FILTERS.some((name) => view[name]);
		$('list').ariaBusy = 'false';
		$('nothing-matches').hidden = !isFiltered;
		$('nothing-arrived').hidden = isFiltered;
		$('empty').hidden = items.length > 0;
		fill('listing-title', total === undefined ? 'Newest first' : counted(total, 'message'));
		announce(items.length ? $('listing-title').textContent : 'Nothing here');
	},

	/** Adds a page at one end of the list, and drops one at the other end if there are too many. */
	add({ items, newer, older }, end) {
		const page = { rows: items.map(listRow), newer, older };
		if (end === 'older') {
			this.pages.push(page);
			$('list').append(...page.rows);
		} else {
			this.pages.unshift(page);
			$('list').prepend(...page.rows);
		}
		if (this.pages.length > PAGES_MAX) {
			const dropped = end === 'older' ? this.pages.shift() : this.pages.pop();
			for (const row of dropped.rows) row.remove();
		}
		for (const item of items) this.arrivals.delete(openNameOf(item));
		showNew();
		fill('newer', this.pages[0].newer ? 'Loading…' : '');
		fill('more', this.pages.at(-1).older ? 'Loading…' : this.rows().length ? 'That is all' : '');
		watch();
	},

	/** Reads on at one end of the list, since the reader comes near it. */
	async readOn(end) {
		const place = end === 'older' ? this.pages.at(-1)?.older : this.pages[0]?.newer;
		if (!place || this.isReadingOn) return;
		const { signal } = asking.list;
		this.isReadingOn = true;
		await attempt(end === 'older' ? 'more' : 'newer', async () => {
			const page = await this.fetch(place, signal);
			keepInPlace(() => this.add(page, end));
		}, undefined, () => this.readOn(end));
		// Else another list is being read, which has set it back.
		if (!signal.aborted) this.isReadingOn = false;
	},

	arrived(item) {
		if ((!view.kind && !passes(item, view)) || this.row(item)) return;
		if (!this.rows().length) {
			load(this);
			return;
		}
		this.arrivals.add(openNameOf(item));
		// Nobody counts on; the list is read anew in any case.
		if (this.arrivals.size === NEW_MAX) live.pause();
		showNew();
	},

	rows() {
		return [...$('list').children];
	},

	row({ source, key }) {
		return this.rows().find(({ dataset }) => dataset.key === key && dataset.source === source);
	},

	mark() {
		for (const row of this.rows()) setCurrent(row.firstChild, openNameOf(row.dataset) === view.open);
	},
};

function showNew() {
	const count = inbox.arrivals.size;
	const words = `${count}${count === NEW_MAX ? ' or more' : ''} new`;
	if (count && $('new').hidden) announce('There are new ones');
	fill('new', words);
	$('new').hidden = !count;
	document.title = count ? `(${count}) Lyftr` : 'Lyftr';
}

const ends = new IntersectionObserver((entries) => {
	for (const { target, isIntersecting } of entries) {
		if (isIntersecting) inbox.readOn(target.id === 'more' ? 'older' : 'newer');
	}
}, { rootMargin: '800px 0px' });

/** Watches the ends of the list anew, since they may still be near. */
function watch() {
	ends.disconnect();
	ends.observe($('newer'));
	ends.observe($('more'));
}

// ---- Detail

const FIELDS = ['text', 'from', 'to', 'ts', 'received_at', 'source', 'kind', 'type', 'key', 'ref', 'thread', 'user_id',
	'account', 'position'];

function fieldElement(name, event) {
	const value = event[name];
	const link = (change) => h('a', { href: hrefOf(change) }, bdi(value));
	const date = /^ts$|_at$/.test(name) && dateOf(value);
	if (value === null) return span('quiet', '—');
	if (date) return h('time', { datetime: date.toISOString() }, full(date), span('utc', value));
	if (name === 'text') return textElement(event);
	if (name === 'from' || name === 'to') return link({ [name]: value });
	if (name === 'ref' && value !== event.key) return link({ open: openNameOf({ source: event.source, key: value }) });
	return bdi(value);
}

/** What a shell takes as it is. */
const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The event that is open beside the list. */
const detail = {
	/** The name of what is shown. */
	open: '',
	json: '',

	clear() {
		supersede('detail');
		this.open = '';
		this.json = '';
		$('detail').hidden = true;
		for (const id of ['fields', 'related', 'conversation', 'tree', 'raw']) fill(id);
	},

	/** Shows what the address opens. When it opens nothing any more, the focus goes back to the list. */
	follow() {
		if (view.open === this.open) return;
		const row = inbox.row(openedBy(this));
		const hadFocus = $('detail').contains(document.activeElement);
		this.clear();
		if (openedBy(view).source) attempt('detail-state', () => this.read());
		else if (hadFocus) (row?.firstChild ?? $('content')).focus({ preventScroll: true });
	},

	async read() {
		const signal = supersede('detail');
		this.open = view.open;
		$('detail').hidden = false;
		$('detail').scrollTop = 0;
		$('detail-body').hidden = true;
		fill('detail-state', 'Loading…');
		const { event: json, data } = textsOf(await request(this.path(), { signal }));
		fill('detail-state', json ? '' : 'No event has this key here. It may have been erased.');
		if (!json) return;
		const event = JSON.parse(json);
		this.json = json;
		this.draw(event, data);
		$('detail-body').hidden = false;
		attempt('related-state', () => showRelated(event, signal));
		attempt('conversation-state', () => conversation.read(event, signal));
	},

	path() {
		return pathOf('/events', { ...openedBy(this), limit: 1 });
	},

	/** Shows an event, of whose `data` this is the text. */
	draw(event, data) {
		fill('detail-title', event.kind === 'message' ? 'Message' : `Event: ${event.kind}`);
		fill('fields', ...FIELDS.flatMap((name) => [
			h('dt', {}, name), h('dd', { 'data-field': name }, fieldElement(name, event))]));
		$('link').href = hrefOf({ open: this.open });
		$('data-section').hidden = data === 'null';
		fill('raw', data);
		$('raw-box').open = data.length < 20_000;
		try {
			fill('tree', treeOf(JSON.parse(data, asSent)));
		} catch {
			fill('tree', 'Nested too deep for a tree');
		}
	},

	curl() {
		const token = $('sign-out').hidden ? '' : ' -H "Authorization: Bearer $READ_TOKEN"';
		return `curl -s ${shellQuoted(location.origin + this.path())}${token}`;
	},
};

/** Shows in their order the statuses, edits and reactions of the same object. */
async function showRelated({ source, key, ref }, signal) {
	fill('related-state', 'Loading…');
	const { data, end } = await getJson('/events', { source, ref: ref ?? key, limit: RELATED_MAX }, signal);
	fill('related', ...data.map(itemOf).map((item) => {
		const words = [item.type, item.text].filter(Boolean).join(': ');
		return rowOf(item, [], timeElement(item.ts), span('kind', item.kind), bdi(words));
	}));
	fill('related-state', end ? (data.length ? '' : 'Nothing so far.') : 'There is more than this.');
}

async function copy(text, { target }) {
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		// Without HTTPS a page has no clipboard, but what is selected can be copied.
		const area = h('textarea', { class: 'unseen' }, text);
		document.body.append(area);
		area.select();
		document.execCommand('copy');
		area.remove();
	}
	target.classList.add('done');
	setTimeout(() => target.classList.remove('done'), DONE_MS);
	announce('Copied');
}

// ---- Conversation

async function* messagesOf(parameters, signal) {
	let cursor = null;
	do {
		const page = await getJson('/messages', { ...parameters, limit: PAGE_ROWS, cursor }, signal);
		yield* page.data.map(itemOf);
		cursor = page.next;
	} while (cursor);
}

/** Merges streams of messages, each in the order that `precedes` tells. */
async function* merged(streams, precedes) {
	const heads = await Promise.all(streams.map((stream) => stream.next()));
	for (;;) {
		const left = heads.filter(({ done }) => !done);
		if (!left.length) return;
		const first = left.reduce((best, head) => (precedes(head.value, best.value) ? head : best));
		yield first.value;
		const i = heads.indexOf(first);
		heads[i] = await streams[i].next();
	}
}

/** What two people said to each other through one source, around the open message. */
const conversation = {
	/** The messages before and after those that are shown, as generators. */
	earlier: null,
	later: null,
	/** The event that is open. */
	event: null,

	async read(event, signal) {
		const { from, to, source, ts, received_at: receivedAt } = event;
		const date = dateOf(ts ?? receivedAt);
		const isBetweenTwo = from !== null && to !== null && date !== null;
		$('conversation-section').hidden = !isBetweenTwo;
		if (!isBetweenTwo) return;
		const border = instant(secondsOf(date) + 1);
		const pairs = from === to ? [{ from, to }] : [{ from, to }, { from: to, to: from }];
		const streams = (bound) => pairs.map((pair) => messagesOf({ ...pair, source, ...bound }, signal));
		this.event = event;
		$('earlier').disabled = true;
		$('later').disabled = true;
		this.earlier = merged(streams({ order: 'desc', until: border }), (a, b) => dateOf(a.ts) > dateOf(b.ts));
		this.later = merged(streams({ order: 'asc', since: border }), (a, b) => dateOf(a.ts) < dateOf(b.ts));
		fill('conversation');
		fill('conversation-state');
		await this.extend('earlier');
		await this.extend('later');
		const row = $('conversation').querySelector('li:has([aria-current])');
		if (row) $('chat').scrollTop = row.offsetTop - ($('chat').clientHeight - row.offsetHeight) / 2;
	},

	/** Shows more at one end, and keeps in place what is being read. */
	async extend(end) {
		const rows = [];
		$(end).disabled = true;
		while (rows.length < PAGE_ROWS) {
			const { value, done } = await this[end].next();
			if (done) break;
			rows.push(this.row(value));
		}
		$(end).disabled = false;
		$(end).hidden = rows.length < PAGE_ROWS;
		const height = $('chat').scrollHeight;
		if (end === 'later') $('conversation').append(...rows);
		else {
			$('conversation').prepend(...rows.reverse());
			$('chat').scrollTop += $('chat').scrollHeight - height;
		}
	},

	row(item) {
		const row = rowOf(item, [h('bdi', { class: 'unseen' }, `${item.from}: `), textElement(item)], timeElement(item.ts));
		row.className = item.from === this.event.from ? 'same' : 'other';
		return row;
	},
};

// ---- Overview

const HOUR = 3600;
const DAY = 24 * HOUR;
const STEPS = { '1m': 60, '5m': 300, '15m': 900, '1h': HOUR, '6h': 6 * HOUR, '1d': DAY, '7d': 7 * DAY, '30d': 30 * DAY };
const BARS_BEST = 120;
const BARS_MAX = 499;
const RANGES = { hour: HOUR, day: DAY, week: 7 * DAY, month: 30 * DAY, year: 364 * DAY, all: Infinity };

/** The chosen range; none where the address has a time range of its own. */
function rangeOf({ since, until, range }) {
	if (since || until) return '';
	return Object.hasOwn(RANGES, range) ? range : 'day';
}

/** The time that the picture shows, in Unix seconds, and its step. */
function boundsOf(stats) {
	const length = RANGES[rangeOf(view)];
	const until = view.until ? secondsOf(view.until) : secondsOf(new Date()) + 1;
	const since = length < Infinity ? until - length : secondsOf(view.since || stats.first_message_ts || new Date());
	const step = Object.keys(STEPS).find((each) => (until - since) / STEPS[each] <= BARS_BEST) ?? '30d';
	return { since: Math.max(since, until - BARS_MAX * STEPS[step]), until, step };
}

/** The sum of those samples of a metric that have the label; null if there are none. */
function metric(page, name, label = '') {
	const samples = [...page.matchAll(new RegExp(`^${name}(?: |{.*${label}.*} )(.*)$`, 'gm'))];
	return samples.length ? samples.reduce((sum, [, value]) => sum + Number(value), 0) : null;
}

/** The picture of the whole, which is read again while one looks at it. */
const overview = {
	timer: 0,

	pause() {
		clearTimeout(this.timer);
		connection.stop();
		supersede('overview');
	},

	clear() {
		this.pause();
		for (const id of ['bars', 'axis', 'rows', 'volume-state', 'service']) fill(id);
		for (const id of ['senders', 'kinds', 'sources']) showRanking(id, [], null, '');
	},

	async read() {
		this.pause();
		if (document.hidden) return;
		const { signal } = asking.overview;
		drawRanges();
		await Promise.all([
			getJson('/stats', {}, signal).then((stats) => {
				showSenders(stats);
				return showVolume(boundsOf(stats), signal);
			}),
			getJson('/events', { before: 'now', limit: RECENT_EVENTS }, signal).then(showRecent),
			showService(signal),
		]);
		connection.say(`Updated ${clock(new Date())}`, 'live');
		this.wait();
	},

	/** Reads again in a while, but not while the focus is in what that replaces. */
	wait() {
		const isInUse = () => $('overview').contains(document.activeElement);
		this.timer = setTimeout(() => (isInUse() ? this.wait() : load(this, true)), OVERVIEW_EVERY_MS);
	},
};

function drawRanges() {
	const hadFocus = $('ranges').contains(document.activeElement);
	fill('ranges', ...Object.keys(RANGES).map((range) => {
		const href = hrefOf({ ...view, range, since: '', until: '' });
		const link = h('a', { 'data-range': range, href }, range[0].toUpperCase() + range.slice(1));
		setCurrent(link, range === rangeOf(view));
		return link;
	}));
	if (hadFocus) $('ranges').querySelector('[aria-current]')?.focus();
}

async function showVolume({ since, until, step }, signal) {
	const { from, to, source } = view;
	const width = STEPS[step];
	const start = Math.floor(since / width) * width;
	const isWithin = view.since && secondsOf(view.since) >= start;
	const time = { since: isWithin ? view.since : instant(start), until: view.until || instant(until) };
	const { data, total } = await getJson('/stats/volume', { ...time, step, from, to, source }, signal);
	const most = Math.max(...data.map(({ count }) => count), 0);
	drawBars(data, most, { start, width, columns: Math.max(Math.ceil((until - start) / width), 1) });
	fill('volume-state', `${counted(total, 'message')} in steps of ${step}, at most ${number(most)} in one.`);
	fill('rows', ...data.map(({ ts, count }) => {
		const begin = secondsOf(ts);
		const link = h('a', { href: hrefOf({ ...view, ...narrowed(begin, begin + width) }) }, full(dateOf(ts)));
		return h('tr', {}, h('th', { scope: 'row' }, link), h('td', {}, number(count)));
	}));
}

/** What narrows a view to a part of the picture. */
const narrowed = (fromSecs, untilSecs) => ({ since: instant(fromSecs), until: instant(untilSecs), range: '' });

/** Draws the columns from `start` on, each of which is `width` seconds. */
function drawBars(data, most, scale) {
	const { start, width, columns } = scale;
	const namespace = $('bars').namespaceURI;
	const bars = data.map(({ ts, count }) => {
		const height = Math.max((count / most) * 96, 1.5);
		const x = (secondsOf(ts) - start) / width + 0.08;
		return h('rect', { namespace, x, y: 100 - height, width: 0.84, height, 'data-ts': ts, 'data-count': count },
			h('title', { namespace }, `${minute(dateOf(ts))}: ${number(count)}`));
	});
	const selection = h('rect', { namespace, class: 'selection', y: 0, height: 100, width: 0 });
	$('bars').setAttribute('viewBox', `0 0 ${columns} 100`);
	fill('bars', selection, ...bars);
	choose = chooserOf(selection, scale);
	const labelOf = (column) => span(null, (width < DAY ? minute : day)((start + column * width) * 1000));
	fill('axis', ...[0, columns / 2, columns].map(labelOf));
}

/** What a pointer does on the bars that are drawn. */
let choose = () => {};

/** Follows a pointer over the bars: a click takes one step, a drag takes all between. */
function chooserOf(selection, { start, width, columns }) {
	let first = null;
	return ({ type, clientX, pointerId, button: pressed }) => {
		const box = $('bars').getBoundingClientRect();
		const column = Math.min(Math.max(Math.floor(((clientX - box.left) / box.width) * columns), 0), columns - 1);
		if (type === 'pointerdown' && pressed === 0) {
			first = column;
			$('bars').setPointerCapture(pointerId);
		}
		if (first === null) return;
		const begin = Math.min(first, column);
		const end = type === 'pointercancel' ? begin : Math.max(first, column) + 1;
		selection.setAttribute('x', begin);
		selection.setAttribute('width', end - begin);
		if (type === 'pointerup' || type === 'pointercancel') first = null;
		if (type === 'pointerup') navigate(narrowed(start + begin * width, start + end * width));
	};
}

/** Lists names and how often each is there, given as pairs. */
function showRanking(id, counts, filterOf, words) {
	const most = Math.max(...counts.map(([, count]) => count));
	fill(id, ...counts.map(([name, count]) => {
		const share = h('span', { class: 'share' });
		share.style.width = `${(count / most) * 100}%`;
		return h('li', {}, h('a', { href: hrefOf(filterOf(name)) }, bdi(name)), span(null, number(count)), share);
	}));
	fill(`${id}-state`, words);
}

function showSenders(stats) {
	const counts = stats.messages_per_sender.map(({ from, count }) => [from, count]);
	const words = `Of ${counted(stats.total_messages, 'message')} from ${counted(stats.senders_count, 'sender')}, ever.`;
	showRanking('senders', counts, (from) => ({ from }), words);
}

function showRecent({ data }) {
	const countsOf = (name) => {
		const counts = new Map();
		for (const event of data) counts.set(event[name], (counts.get(event[name]) ?? 0) + 1);
		return [...counts].sort(([, a], [, b]) => b - a);
	};
	const words = `Among the newest ${counted(data.length, 'event')}.`;
	showRanking('kinds', countsOf('kind'), (kind) => ({ kind: kind === 'message' ? '' : kind }), words);
	showRanking('sources', countsOf('source'), (source) => ({ source, kind: 'any' }), words);
}

async function showService(signal) {
	const ready = request('/health/ready', { signal }).then(() => 'Ready', (failure) => {
		if (failure.status !== 503) throw failure;
		return `Not ready: ${failure.message}`;
	});
	// Proxies may keep this to themselves.
	const page = request('/metrics', { signal }).catch((failure) => {
		if (failure.status !== 403 && failure.status !== 404) throw failure;
		return '';
	});
	const parts = [ready, page, getJson('/cursors', {}, signal)];
	const [state, metrics, cursors] = await Promise.all(parts);
	const queue = metric(metrics, 'inbox_queue_messages');
	const queueMax = metric(metrics, 'inbox_queue_messages_max');
	const refused = metric(metrics, 'webhook_requests_total', 'result="invalid_signature"');
	const disk = metric(metrics, 'store_disk_free_bytes');
	const known = (value, words) => [value === null ? 'Not known here' : words()];
	const lags = cursors.data.map(({ name, lag }) => h('div', {}, `${name}: ${number(lag)}`));
	const entry = (name, words, content, isBad = false) => [
		h('dt', {}, words), h('dd', { 'data-state': name, class: isBad ? 'bad' : null }, ...content)];
	fill('service',
		...entry('ready', 'State', [state], state !== 'Ready'),
		...entry('queue', 'Queue', known(queue, () => `${number(queue)} of ${number(queueMax)}`), queue > queueMax / 2),
		...entry('refused', 'Refused signatures', known(refused, () => `${number(refused)} since the start`)),
		...entry('lag', 'Lag of cursors', lags.length ? lags : ['No cursors']),
		...entry('disk', 'Free disk', known(disk, () => `${number(Math.round(disk / 1e8) / 10)} GB`), disk !== null && disk < 1e9));
}

// ---- The whole

/** Shows what the address names, and reads again only what differs. */
function show(next) {
	const before = view;
	view = next;
	if (!$('sign-in').hidden) return;
	if (['view', 'range', ...FILTERS].some((name) => before[name] !== next[name])) refresh();
	else {
		drawFrame();
		inbox.mark();
		detail.follow();
	}
}

/** Reads all that is shown. */
function refresh() {
	$('sign-in').hidden = true;
	drawFrame();
	if (view.view) {
		for (const part of [live, inbox, detail]) part.clear();
		load(overview);
	} else {
		overview.pause();
		load(inbox);
		detail.follow();
	}
}

/** Draws what does not come from the server: tabs, filters, links. */
function drawFrame() {
	const isOverview = view.view === 'overview';
	$('filters').hidden = false;
	$('inbox').hidden = isOverview;
	$('overview').hidden = !isOverview;
	setCurrent($('tab-inbox'), !isOverview);
	setCurrent($('tab-overview'), isOverview);
	$('tab-inbox').href = hrefOf({ ...view, view: '', range: '', open: '' });
	$('tab-overview').href = hrefOf({ ...view, view: 'overview', q: '', kind: '', open: '' });
	for (const name of FILTERS) {
		const input = $(`f-${name}`);
		const isTime = input.type === 'datetime-local';
		const value = isTime ? inputOf(view[name]) : view[name];
		// A blank at the end is of a name that is still being written.
		if (input.value !== value && input.value.trim() !== value) input.value = value;
		input.disabled = view.kind !== '' && (isTime || name === 'q');
	}
	for (const label of document.querySelectorAll('.inbox-only')) label.hidden = isOverview;
	const count = FILTERS.filter((name) => view[name]).length;
	$('clear').disabled = !count;
	fill('filters-toggle', count ? `Filters (${count})` : 'Filters');
	$('kind-note').hidden = !view.kind;
	const [path, filters] = view.kind
		? ['/events', filtersOfEvents(view)] : ['/messages', { ...filtersOfMessages(view), order: 'desc' }];
	for (const format of ['ndjson', 'csv']) $(`download-${format}`).href = pathOf(path, { ...filters, format });
}

// ---- Hands

let typingTimer = 0;
/** Whether typing goes on, so that it replaces its own entry of the history. */
let isTyping = false;

function readFilters() {
	clearTimeout(typingTimer);
	const change = {};
	for (const name of FILTERS) {
		const { value, type } = $(`f-${name}`);
		if (type !== 'datetime-local') change[name] = name === 'q' ? value : value.trim();
		else if (value !== inputOf(view[name])) change[name] = value && instant(new Date(value) / 1000);
	}
	if (Object.keys(change).every((name) => change[name] === view[name])) return;
	navigate(change, isTyping ? 'replaceState' : 'pushState');
	isTyping = true;
}

function moveRow(step) {
	const rows = inbox.rows();
	const focused = rows.indexOf(document.activeElement.closest('#list > li'));
	const current = focused < 0 ? rows.findIndex((row) => row.firstChild.ariaCurrent) : focused;
	const firstVisible = rows.findIndex((row) => row.getBoundingClientRect().top >= $('top').offsetHeight);
	rows[current < 0 ? Math.max(firstVisible, 0) : current + step]?.firstChild.focus();
}

function close() {
	if (view.open) navigate({ open: '' });
}

const KEYS = {
	'/': () => $(view.view ? 'f-from' : 'f-q').focus(),
	j: () => moveRow(1),
	k: () => moveRow(-1),
	ArrowDown: () => moveRow(1),
	ArrowUp: () => moveRow(-1),
	n: () => { if (inbox.arrivals.size) load(inbox, true); },
	'?': () => $('help').showModal(),
	Escape: close,
};

const hasModifier = ({ ctrlKey, metaKey, altKey }) => ctrlKey || metaKey || altKey;

function press(event) {
	const { key, target } = event;
	if (hasModifier(event) || $('help').open || !$('sign-in').hidden) return;
	const field = target.closest('input, select');
	if (field && key === 'Escape') {
		event.preventDefault();
		field.blur();
	}
	if (field || !Object.hasOwn(KEYS, key)) return;
	const isOnRows = inbox.rows().length && (target === document.body || target.closest('#list'));
	if (key.startsWith('Arrow') && !isOnRows) return;
	event.preventDefault();
	KEYS[key]();
}

/** Follows a link to another view without loading the page again. */
function follow(event) {
	const link = event.target.closest('a');
	if (!link || hasModifier(event) || event.shiftKey) return;
	if (link.origin !== location.origin || link.pathname !== '/' || link.hash) return;
	event.preventDefault();
	isTyping = false;
	const next = viewOf(link.search);
	// A row was drawn with the filters of its time.
	navigate(link.closest('[data-key]') ? { open: next.open } : next);
	if (view.open) $('detail').focus({ preventScroll: true });
}

/** Asks for nothing while nobody looks at the page. */
function watchVisibility() {
	if (!$('sign-in').hidden) return;
	if (document.hidden) {
		live.pause();
		overview.pause();
	} else if (live.place) live.probe();
	else load(view.view ? overview : inbox, true);
}

/** A generator that has failed is at its end, so that the conversation is read anew then. */
function showMore(end) {
	const again = () => attempt('conversation-state', () => conversation.read(conversation.event, asking.detail.signal));
	attempt('conversation-state', () => conversation.extend(end), undefined, again);
}

const CLICKS = {
	'sign-out': signIn.leave,
	'help-open': KEYS['?'],
	'filters-toggle': ({ target }) => { target.ariaExpanded = $('filters').classList.toggle('open'); },
	new: () => load(inbox, true),
	close,
	'copy-json': (event) => copy(detail.json, event),
	'copy-curl': (event) => copy(detail.curl(), event),
	earlier: () => showMore('earlier'),
	later: () => showMore('later'),
};

/** Keeps the head in sight, unless it takes too much of the screen. */
function fitHead() {
	const { style, classList } = document.documentElement;
	const height = $('top').offsetHeight;
	style.setProperty('--top', `${height}px`);
	classList.toggle('sticky', height * 3 < window.innerHeight);
}

function listen() {
	const on = (id, type, run) => $(id).addEventListener(type, run);
	const onSubmit = (id, run) => on(id, 'submit', (event) => {
		event.preventDefault();
		run();
	});
	for (const [id, run] of Object.entries(CLICKS)) on(id, 'click', run);
	onSubmit('sign-in', signIn.submit);
	onSubmit('filters', () => {
		readFilters();
		// From here on keys are commands again.
		document.activeElement.blur();
	});
	on('filters', 'reset', () => navigate(NO_FILTERS));
	on('filters', 'input', () => {
		clearTimeout(typingTimer);
		typingTimer = setTimeout(readFilters, TYPING_MS);
	});
	on('filters', 'change', () => {
		readFilters();
		isTyping = false;
	});
	for (const type of ['down', 'move', 'up', 'cancel']) on('bars', `pointer${type}`, (event) => choose(event));
	document.addEventListener('click', follow);
	document.addEventListener('keydown', press);
	document.addEventListener('visibilitychange', watchVisibility);
	window.addEventListener('popstate', () => {
		isTyping = false;
		show(viewOf(location.search));
	});
	window.addEventListener('resize', fitHead);
	new ResizeObserver(fitHead).observe($('top'));
}

$('f-kind').append(...KINDS.slice(1).map((kind) => h('option', { value: kind }, kind)));
fill('first-lines', 'export WEBHOOK_SECRET=…   # the secret of this server\n',
	`lyftr send --url ${location.origin} --text 'Hello'`);
history.scrollRestoration = 'manual';
listen();
refresh();
