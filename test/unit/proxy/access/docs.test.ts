import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BROKER_KEYS,
  CERTIFICATE_KEYS,
  CLIENT_KEYS,
  type CredentialsFile,
  parseCredentials,
} from '../../../../proxy/access/credentials-file.ts';
import { CHECKS_MAX } from '../../../../proxy/access/password-checks.ts';
import { PASSWORD_MAX, tryPassword } from '../../../../proxy/access/password-hash.ts';
import { CredentialsFolder } from '../../../support/credentials.ts';

const text = readFileSync(new URL('../../../../docs/access.md', import.meta.url), 'utf8');
const [, example = ''] = /```yaml\n(.*?)```/s.exec(text) ?? [];

describe('docs/access.md', () => {
  let files: CredentialsFolder;
  let file: CredentialsFile;
  beforeAll(async () => {
    files = await CredentialsFolder.make();
    const password = await files.file('password\n');
    file = parseCredentials('example', example.replaceAll(/\/run\/secrets\/\w+/g, password));
  });
  afterAll(() => files[Symbol.asyncDispose]());

  it('has an example that can be read', { timeout: 90_000 }, async () => {
    expect(file.byPassword.map(({ user, broker }) => [user, broker?.user])).toEqual([
      ['nova', 'nova-broker'],
      ['glance', undefined],
    ]);
    expect(file.byCertificate.map(({ user, broker }) => [user, broker.user])).toEqual([
      ['cinder', 'cinder-broker'],
    ]);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    tryPassword(Buffer.from('secret-nova'), file.byPassword[0]!.password, resolve);
    expect(await promise).toBe(true);
  });

  it('has each key of a client', () => {
    const rows = [...text.matchAll(/^\| `(\w+)` \|/gm)].map(([, key]) => key);
    expect(rows).toEqual(CLIENT_KEYS);
    for (const key of [...CERTIFICATE_KEYS, ...BROKER_KEYS]) expect(text).toContain(`\`${key}\``);
  });

  it('has the bounds', () => {
    expect(text).toContain(`of up to ${PASSWORD_MAX} octets`);
    expect(text.replaceAll('\n', ' ')).toContain(`Up to ${CHECKS_MAX} wait`);
  });
});
