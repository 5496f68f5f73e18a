import { createHash } from 'node:crypto';
import { PAGE_SCRIPT } from './page-script.ts';
import { PAGE_STYLE } from './page-style.ts';

function hash(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** The page loads nothing, runs its own script alone and talks to its own server alone. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `style-src ${hash(PAGE_STYLE)}`,
  `script-src ${hash(PAGE_SCRIPT)}`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Table heads of what can be sorted: the key, and what is shown. */
const SORTED = [
  ['id', 'id'],
  ['address', 'address'],
  ['name', 'name'],
  ['user', 'user'],
  ['vhost', 'virtual host'],
  ['state', 'state'],
  ['channels', 'channels'],
  ['octetsFromClient', 'from client'],
  ['octetsToClient', 'to client'],
  ['buffered', 'buffered'],
  ['rewrites', 'rewrites'],
] as const;

function heads(...names: string[]): string {
  return names.map((name) => `<th scope="col">${name}</th>`).join('');
}

const sorts = SORTED.map(
  ([sort, name]) =>
    `<th scope="col"${sort === 'id' ? ' aria-sort="descending"' : ''}><button type="button" data-sort="${sort}">${name}</button></th>`,
).join('');

/** The page at `/`: all of it. Nothing of clients is in it; that comes by /events. */
export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Quorumbridge proxy</title>
<style>${PAGE_STYLE}</style>
</head>
<body>
<header>
<h1>Quorumbridge proxy</h1>
<span id="live" class="badge quiet" role="status">connecting</span>
<span id="draining" class="badge warn" hidden>draining</span>
<span id="about" class="quiet"></span>
</header>
<main>
<noscript><section>The page needs JavaScript; <code>/stats</code> and <code>/connections</code> are the same as JSON.</section></noscript>
<p id="hint" class="warn" role="status"></p>
<form id="login" hidden>
<label for="token">Token (--admin-token-file)</label>
<input id="token" type="password" autocomplete="off" required>
<button>use it</button>
</form>
<p id="why" class="bad"></p>
<p id="faults" class="warn"></p>
<div id="cards"></div>
<section>
<h2>Traffic</h2>
<svg viewBox="0 0 120 52" preserveAspectRatio="none" role="img" aria-label="octets a second in the last two minutes"><polyline id="in" class="in"/><polyline id="out" class="out"/></svg>
<span class="keyin">from clients</span> · <span class="keyout">to clients</span> · <span id="most" class="quiet">octets a second, two minutes</span>
</section>
<section>
<h2>Who still needs the proxy</h2>
<p id="summary"></p>
<p id="nobody" class="quiet">No client has needed it.</p>
<div id="someone" class="scroll" hidden><table class="stack"><thead><tr>${heads('name', 'user', 'virtual host', 'address', 'open', 'rewritten', 'last')}</tr></thead><tbody id="needing"></tbody></table></div>
<p><b>Rewrites:</b> <span id="rewrites"></span></p>
<p><b>Limits reached:</b> <span id="hits"></span></p>
<p><b>Connections that the proxy ended or refused:</b> <span id="errors"></span></p>
</section>
<section id="pool" hidden>
<h2>Pool</h2>
<p id="poolsize"></p>
<div class="scroll"><table class="stack"><thead><tr>${heads('user', 'virtual host', 'clients', 'waiting', 'connection', 'state', 'channels')}</tr></thead><tbody id="groups"></tbody></table></div>
</section>
<section id="pauses" hidden>
<h2>Paused virtual hosts</h2>
<div class="scroll"><table class="stack"><thead><tr>${heads('virtual host', 'connections', 'until', '')}</tr></thead><tbody id="paused"></tbody></table></div>
</section>
<section>
<h2>Connections</h2>
<form id="filter">
<input name="user" placeholder="user" aria-label="user" autocomplete="off">
<input name="vhost" placeholder="virtual host" aria-label="virtual host" autocomplete="off">
<input name="name" placeholder="name contains" aria-label="name contains" autocomplete="off">
<select name="state" aria-label="state"><option>any</option><option>header</option><option>connecting</option><option>handshake</option><option>open</option><option>raw</option><option>closing</option></select>
</form>
<div class="bar"><button id="back" type="button">back</button><button id="more" type="button">more</button><span id="range" class="quiet"></span></div>
<div class="scroll"><table class="stack"><thead><tr id="sorts">${sorts}<th></th></tr></thead><tbody id="connections"></tbody></table></div>
</section>
<section>
<h2>Pause a virtual host</h2>
<form id="pause"><input id="pausing" placeholder="virtual host" aria-label="virtual host to pause" autocomplete="off"><button>pause for 60 s</button></form>
<span class="quiet">Its clients are not read from: TCP slows them down, and what the broker sends them goes on.</span>
</section>
</main>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
