// Finds secrets in output, in whatever way they may have been written.

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

/** All ways of writing a secret that are looked for, by name. */
export function formsOf(secret: string): [form: string, text: string][] {
  const octets = Buffer.from(secret);
  const hex = octets.toString('hex');
  return [
    ['plain', secret],
    ['JSON', JSON.stringify(secret).slice(1, -1)],
    ['URL', encodeURIComponent(secret)],
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

/** The secrets that are in the text, by the names that they have in `secrets`. */
export function secretsIn(text: string, secrets: Readonly<Record<string, string>>): Find[] {
  return Object.entries(secrets).flatMap(([secret, value]) =>
    formsOf(value)
      .filter(([, written]) => text.includes(written))
      .map(([form]) => ({ secret, form })),
  );
}
