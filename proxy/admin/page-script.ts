/**
 * What the page does, for browsers as they are: it listens to /events and shows what comes. Text of clients is put into text
 * nodes alone, so that nothing in it is markup.
 */
export const PAGE_SCRIPT = String.raw`
'use strict';
const byId = (id) => document.getElementById(id);
const query = { user: '', vhost: '', name: '', state: 'any', sort: '-id', limit: '50', offset: '0' };
let token = sessionStorage.getItem('token') || '';
let last, listening, wake;
const rates = [];

function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}
const dash = (text) => (text === null || text === undefined ? '–' : String(text));
const count = (number) => number.toLocaleString('en');
function octets(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (number >= 1024 && at < 4) { number /= 1024; at++; }
  return (at === 0 || number >= 100 ? Math.round(number) : number.toFixed(1)) + ' ' + units[at];
}
function span(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min ' + (s % 60) + ' s';
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + Math.floor((s % 3600) / 60) + ' min';
  return Math.floor(s / 86400) + ' d ' + Math.floor((s % 86400) / 3600) + ' h';
}
const time = (iso) => iso.slice(0, 10) + ' ' + iso.slice(11, 19) + ' UTC';
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const pairs = (counts) => Object.entries(counts).filter((one) => one[1] > 0).map((one) => one[0] + ' ' + count(one[1])).join(', ');

/** What may be long: on a phone it has a line of its own, and two of the others share one. */
const WIDE = ['name', 'user', 'virtual host', 'address', 'rewritten', 'last', 'connection', 'until'];

/** Rows stay the same elements while they are shown, so that what is clicked on does not move away under the pointer. */
function fill(id, rows, labels) {
  const body = byId(id);
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const kept = rows.map(({ key, cells, action }) => {
    let row = old.get(key);
    if (!row) {
      row = make('tr');
      row.dataset.key = key;
      labels.forEach((label) => {
        const cell = row.insertCell();
        cell.dataset.label = label;
        if (WIDE.includes(label)) cell.className = 'wide';
        cell.append(make('bdi'));
      });
      if (action) row.insertCell().append(action());
    }
    cells.forEach((text, at) => {
      const place = row.cells[at].firstChild;
      if (place.textContent !== text) place.textContent = text;
    });
    old.delete(key);
    return row;
  });
  old.forEach((row) => row.remove());
  kept.forEach((row, at) => { if (body.children[at] !== row) body.insertBefore(row, body.children[at] || null); });
}

function card(label, text, name) {
  let box = document.querySelector('#cards [data-key="' + label + '"]');
  if (!box) {
    box = make('div');
    box.dataset.key = label;
    box.append(make('b'), make('span', label));
    byId('cards').append(box);
  }
  box.firstChild.textContent = text;
  box.firstChild.className = name || '';
}

function line(id, values, most) {
  byId(id).setAttribute('points', values.map((value, at) => 121 - values.length + at + ',' + (50 - (48 * value) / most)).join(' '));
}

function rate(stats) {
  const before = last && last.startedAt === stats.startedAt ? last : undefined;
  last = stats;
  if (!before) return undefined;
  const seconds = Math.max(stats.uptimeSeconds - before.uptimeSeconds, 0.001);
  const now = {
    in: Math.max(0, stats.octets.fromClients - before.octets.fromClients) / seconds,
    out: Math.max(0, stats.octets.fromBackend - before.octets.fromBackend) / seconds,
    frames: (stats.frames.fromClients + stats.frames.fromBackend - before.frames.fromClients - before.frames.fromBackend) / seconds,
    cpu: (stats.process.cpuSeconds - before.process.cpuSeconds) / seconds,
  };
  rates.push(now);
  if (rates.length > 121) rates.shift();
  const most = Math.max(1, ...rates.map((one) => Math.max(one.in, one.out)));
  line('in', rates.map((one) => one.in), most);
  line('out', rates.map((one) => one.out), most);
  byId('most').textContent = 'highest shown: ' + octets(Math.round(most)) + '/s';
  return now;
}

function delayed(one) {
  const of = [one.user === null ? '' : ' of user ' + one.user, one.vhost === null ? '' : ' of virtual host ' + one.vhost].join('');
  const where = { both: 'in both directions', client_to_broker: 'to the broker', broker_to_client: 'to clients' }[one.direction];
  return count(one.connections) + ' connections' + of + ' are delayed by ' + one.milliseconds + ' ms ' + where + ' until ' + time(one.until) + '.';
}

function showStats(stats) {
  byId('about').textContent = 'mode ' + stats.mode + ' · broker ' + stats.backend + ' · up ' + span(stats.uptimeSeconds);
  byId('draining').hidden = !stats.draining;
  const now = rate(stats);
  const errors = sum(stats.errors);
  card('connections', count(stats.connections.active));
  card('since the start', count(stats.connections.total));
  card('from clients', now ? octets(now.in) + '/s' : '…');
  card('to clients', now ? octets(now.out) + '/s' : '…');
  card('frames', now ? count(Math.round(now.frames)) + '/s' : '…');
  card('rewrites', count(sum(stats.rewrites)));
  card('ended by the proxy', count(errors), errors > 0 ? 'warn' : '');
  const breaker = stats.breaker;
  card('breaker', breaker.state, { closed: 'good', 'half-open': 'warn', open: 'bad' }[breaker.state]);
  byId('why').textContent = breaker.why === null ? '' : 'breaker ' + breaker.state + ': ' + breaker.why;
  const { enabled, delays } = stats.faults;
  byId('faults').textContent = enabled ? ['Faults can be injected (--fault-injection).', ...delays.map(delayed)].join(' ') : '';
  card('limits reached', count(sum(stats.limits.hits)));
  card('processor', now ? Math.round(now.cpu * 100) + ' %' : '…');
  card('memory', octets(stats.process.residentOctets));
  byId('summary').textContent = stats.ledger.text;
  byId('rewrites').textContent = pairs(stats.rewrites) || 'none yet';
  byId('hits').textContent = pairs(stats.limits.hits) || 'none yet';
  byId('errors').textContent = pairs(stats.errors) || 'none yet';
  byId('pauses').hidden = stats.paused.length === 0;
  fill('paused', stats.paused.map((one) => ({
    key: one.vhost,
    cells: [one.vhost, count(one.connections), time(one.until)],
    action: () => button('resume', () => act('POST', 'vhosts/' + encodeURIComponent(one.vhost) + '/resume')),
  })), ['virtual host', 'connections', 'until']);
}

function showPool(pool) {
  byId('pool').hidden = pool === null;
  if (pool === null) return;
  byId('poolsize').textContent = count(pool.connections) + ' of ' + count(pool.maxUpstreamConnections) + ' connections to the broker';
  const rows = pool.groups.flatMap((group, at) => {
    const who = [dash(group.user), group.virtualHost, count(group.clients), count(group.waiting)];
    const shown = group.connections.length === 0 ? [{ name: '–', state: 'none', channels: 0, channelMax: 0, blockedBy: null }] : group.connections;
    return shown.map((one) => ({
      key: at + ' ' + one.name,
      cells: [...who, one.name, one.state + (one.blockedBy === null ? '' : ', blocked: ' + one.blockedBy), count(one.channels) + ' of ' + count(one.channelMax)],
    }));
  });
  fill('groups', rows, ['user', 'virtual host', 'clients', 'waiting', 'connection', 'state', 'channels']);
}

function showNeeding(needing) {
  byId('nobody').hidden = needing.length > 0;
  byId('someone').hidden = needing.length === 0;
  fill('needing', needing.map((one, at) => ({
    key: JSON.stringify([one.user, one.vhost, one.name, one.address, at]),
    cells: [dash(one.name), dash(one.user), one.vhost, one.address, count(one.open), pairs(one.rewrites), one.lastRewrite === null ? '–' : time(one.lastRewrite)],
  })), ['name', 'user', 'virtual host', 'address', 'open', 'rewritten', 'last']);
}

function showConnections(shown) {
  const first = shown.connections.length === 0 ? 0 : shown.offset + 1;
  byId('range').textContent = count(first) + '–' + count(shown.offset + shown.connections.length) + ' of ' + count(shown.matching) + (shown.matching === shown.total ? '' : ' (' + count(shown.total) + ' in all)');
  byId('back').disabled = shown.offset === 0;
  byId('more').disabled = shown.offset + shown.connections.length >= shown.matching;
  fill('connections', shown.connections.map((one) => ({
    key: String(one.id),
    cells: [
      String(one.id), one.address + ':' + one.port + (one.tls ? ' TLS' : ''), dash(one.name === null ? one.product : one.name), dash(one.user), dash(one.vhost),
      one.state + (one.paused ? ', paused' : ''), count(one.channels), octets(one.octetsFromClient), octets(one.octetsToClient), octets(one.buffered), count(one.rewrites),
    ],
    action: () => {
      const bar = make('span');
      bar.append(button('close', () => {
        if (confirm('Close connection ' + one.id + '? Its client is told 320 CONNECTION_FORCED.')) act('DELETE', 'connections/' + one.id);
      }));
      return bar;
    },
  })), ['id', 'address', 'name', 'user', 'virtual host', 'state', 'channels', 'from client', 'to client', 'buffered', 'rewrites']);
}

function button(text, work) {
  const made = make('button', text);
  made.type = 'button';
  made.addEventListener('click', work);
  return made;
}

function live(text, name) {
  byId('live').textContent = text;
  byId('live').className = 'badge ' + name;
}

const headers = () => (token === '' ? {} : { authorization: 'Bearer ' + token });

async function act(method, path) {
  try {
    const response = await fetch(path, { method, headers: headers() });
    const text = await response.text();
    byId('hint').textContent = response.ok ? 'done: ' + path : text;
  } catch (error) {
    byId('hint').textContent = String(error);
  }
}

function show(state) {
  live('live', 'good');
  showStats(state.stats);
  showPool(state.pool);
  showNeeding(state.needing);
  showConnections(state.connections);
}

async function read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    if (events.length > 0) show(JSON.parse(events.at(-1).replace('event: state\ndata: ', '')));
  }
}

function ask() {
  const wanted = Object.entries(query).filter((one) => one[1] !== '');
  return 'events?' + new URLSearchParams(wanted);
}

async function listen() {
  for (;;) {
    listening = new AbortController();
    let pause = 2000;
    try {
      const response = await fetch(ask(), { headers: headers(), signal: listening.signal });
      byId('login').hidden = response.status !== 401;
      if (response.ok) await read(response);
      else {
        live(response.status === 401 ? 'token wanted' : 'refused', 'warn');
        byId('hint').textContent = await response.text();
        if (response.status === 401) pause = 86400000;
      }
      if (response.ok) live('no connection to the proxy', 'bad');
    } catch (error) {
      if (error.name === 'AbortError') continue;
      live('no connection to the proxy', 'bad');
    }
    await new Promise((resolve) => { wake = resolve; setTimeout(resolve, pause); });
  }
}

function again() {
  listening.abort();
  if (wake) wake();
}

byId('login').addEventListener('submit', (event) => {
  event.preventDefault();
  token = byId('token').value.trim();
  sessionStorage.setItem('token', token);
  byId('hint').textContent = '';
  again();
});
byId('filter').addEventListener('input', (event) => {
  query[event.target.name] = event.target.value;
  query.offset = '0';
  again();
});
byId('filter').addEventListener('submit', (event) => event.preventDefault());
byId('back').addEventListener('click', () => { query.offset = String(Math.max(0, Number(query.offset) - 50)); again(); });
byId('more').addEventListener('click', () => { query.offset = String(Number(query.offset) + 50); again(); });
byId('sorts').addEventListener('click', (event) => {
  const sort = event.target.dataset.sort;
  if (!sort) return;
  query.sort = query.sort === '-' + sort ? sort : '-' + sort;
  document.querySelectorAll('#sorts th').forEach((head) => head.removeAttribute('aria-sort'));
  event.target.parentElement.setAttribute('aria-sort', query.sort === sort ? 'ascending' : 'descending');
  again();
});
byId('pause').addEventListener('submit', (event) => {
  event.preventDefault();
  const vhost = byId('pausing').value;
  if (vhost !== '' && confirm('Stop reading from all clients of virtual host ' + vhost + ' for 60 s?'))
    act('POST', 'vhosts/' + encodeURIComponent(vhost) + '/pause');
});
listen();
`;
