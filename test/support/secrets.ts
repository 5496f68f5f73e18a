// Finds secrets in output, in whatever way they may have been written.
import { createPrivateKey } from 'node:crypto';

/** Where a secret was found: its name, and how it was written. */
export interface Find {
  readonly secret: string;
  readonly form: string;
}

/** The part of base64 that a text has wherever in a longer text it stands: 3 octets are 4 characters. */
function base64Forms(octets: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), octets])
      .toString('base64')
      .replaceAll('=', '');
    const from = Math.ceil((before * 4) / 3);
    const whole = Math.floor(((before + octets.length) * 8) / 6);
    return text.slice(from, whole);
  });
}

/** All ways of writing a secret that are looked for, by name: a text, or octets that are none. */
export function formsOf(secret: string | Uint8Array): [form: string, text: string][] {
  const octets = Buffer.from(secret);
  const hex = octets.toString('hex');
  const asText: [string, string][] =
    typeof secret === 'string'
      ? [
          ['plain', secret],
          ['JSON', JSON.stringify(secret).slice(1, -1)],
          ['URL', encodeURIComponent(secret)],
        ]
      : [];
  return [
    ...asText,
    ...base64Forms(octets).map((text, at): [string, string] => [`base64, ${at} octets behind`, text]),
    ...base64Forms(octets).map((text, at): [string, string] => [
      `base64url, ${at} octets behind`,
      text.replaceAll('+', '-').replaceAll('/', '_'),
    ]),
    ['hex', hex],
    ['HEX', hex.toUpperCase()],
    ['hex with spaces', hex.replaceAll(/(..)(?!$)/g, '$1 ')],
    ['decimal octets', [...octets].join(',')],
  ];
}

/** What is secret of a private key: the lines of its PEM, and its numbers. */
export function secretsOfKey(name: string, pem: string): Record<string, string | Uint8Array> {
  const lines = pem.split('\n').filter((line) => line.length >= 32 && !line.startsWith('-----'));
  const { d, p, q } = createPrivateKey(pem).export({ format: 'jwk' });
  const numbers = Object.entries({ d, p, q }).filter(([, number]) => number !== undefined);
  return Object.fromEntries<string | Uint8Array>([
    ...lines.map((line, at) => [`${name}, line ${at + 1}`, line] as const),
    ...numbers.map(([which, number]) => [`${name}, ${which}`, Buffer.from(number!, 'base64url')] as const),
  ]);
}

/** The secrets in a file of Node's --tls-keylog: label, random of the client, secret, a line for each. */
export function secretsOfTls(log: string): Record<string, Uint8Array> {
  const lines = log.split('\n').filter((line) => /^\w+ [0-9a-f]+ [0-9a-f]+$/.test(line));
  return Object.fromEntries(
    lines.map((line, at) => [
      `TLS ${at + 1}, ${line.split(' ')[0]}`,
      Buffer.from(line.split(' ')[2]!, 'hex'),
    ]),
  );
}

/** The secrets that are in the text, by the names that they have in `secrets`. */
export function secretsIn(text: string, secrets: Readonly<Record<string, string | Uint8Array>>): Find[] {
  return Object.entries(secrets).flatMap(([secret, value]) =>
    formsOf(value)
      .filter(([, written]) => text.includes(written))
      .map(([form]) => ({ secret, form })),
  );
}
