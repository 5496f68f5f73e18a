import { hostname } from 'node:os';
import { hostName, serviceHosts } from '../certs/names.ts';
import { certsOptions } from '../certs/options.ts';
import { UsageError, messageOf } from '../common/errors.ts';
import type { OptionValues } from '../common/options.ts';
import type { CommandSpec } from './command.ts';

type Values = OptionValues<typeof certsOptions>;

export const command: CommandSpec<typeof certsOptions> = {
  name: 'certs',
  summary: 'Make a CA, and certificates for TLS servers and clients.',
  options: certsOptions,
  positionals: ['action', 'dir'],
  examples: [
    { purpose: 'for this machine', command: 'quorumbridge certs generate tls' },
    {
      purpose: 'for a cluster, RSA, for a year',
      command:
        'quorumbridge certs generate tls --service=rabbitmq.openstack \\\n  --key-type=rsa --days=365 --client-name=nova',
    },
    {
      purpose: 'renew the server and the client under the same CA',
      command: 'quorumbridge certs generate tls --ca=tls/ca.crt --ca-key=tls/ca.key --force',
    },
    {
      purpose: 'see what clients do about certificates that have ended',
      command: 'quorumbridge certs generate ended --expired',
    },
  ],
  async run(values, io) {
    const { generate } = await import('../certs/generate.ts');
    const { asText } = await import('./certs/text.ts');
    const { writeFiles } = await import('./certs/write.ts');
    const { dir, clientName, days, expired, force } = values;
    const now = Date.now();
    const hosts = hostsOf(values);
    const made = await generate({
      hosts,
      clientName,
      key: keyOf(values),
      days,
      expired,
      ca: await authorityOf(values, now),
      now,
    });
    const files = Object.entries(made).flatMap(([name, { cert, key }]) => [
      { name: `${name}.crt`, text: cert, secret: false },
      ...(key === undefined ? [] : [{ name: `${name}.key`, text: key, secret: true }]),
    ]);
    try {
      await writeFiles(dir, files, force);
    } catch (error) {
      if (error instanceof UsageError) throw error;
      io.stderr.write(
        `quorumbridge certs: option --dir: ${dir} cannot be written: ${messageOf(error)}: name a folder that can\n`,
      );
      return 1;
    }
    io.stdout.write(asText(dir, made, hosts.find((host) => !host.startsWith('*')) ?? 'localhost', now));
    return 0;
  },
};

function hostsOf({ host, service }: Values): string[] {
  const named = host.length > 0 ? host : ['localhost', '127.0.0.1', '::1', ...ownName()];
  return [...new Set([...named, ...service.flatMap(serviceHosts)])];
}

/** What this machine calls itself, where that is a name at all. */
function ownName(): string[] {
  try {
    return [hostName()(hostname())];
  } catch {
    return [];
  }
}

function keyOf({ keyType, rsaBits }: Values): { type: 'ecdsa' } | { type: 'rsa'; bits: number } {
  if (keyType === 'rsa') return { type: 'rsa', bits: rsaBits ?? 2048 };
  if (rsaBits !== undefined) {
    throw new UsageError(
      `option --rsa-bits: ${rsaBits} is for RSA, and the keys are ECDSA: give --key-type=rsa, or leave it out`,
    );
  }
  return { type: 'ecdsa' };
}

/** The CA that the files of the options hold, or the days of a new one. */
async function authorityOf(
  { ca, caKey, caDays, days }: Values,
  now: number,
): Promise<number | { cert: string; key: string }> {
  if (ca === undefined && caKey === undefined) {
    const lasting = caDays ?? 10 * days;
    if (lasting >= days) return lasting;
    throw new UsageError(
      `option --ca-days: ${lasting} is less than --days=${days}, and no certificate outlives its CA: raise it, or lower --days`,
    );
  }
  if (ca === undefined || caKey === undefined) {
    const [given, missing] = ca === undefined ? ['ca-key', 'ca'] : ['ca', 'ca-key'];
    throw new UsageError(
      `option --${given}: ${ca ?? caKey} is half of a CA: give --${missing} too, or neither to make a new one`,
    );
  }
  if (caDays !== undefined) {
    throw new UsageError(
      `option --ca-days: ${caDays} is for a new CA, and --ca=${ca} has its days already: leave one of them out`,
    );
  }
  const { checkAuthority } = await import('../certs/generate.ts');
  const { readSigner } = await import('../certs/keys.ts');
  const { readTlsFiles } = await import('../common/tls.ts');
  const optionNames = { cert: 'ca', key: 'ca-key' };
  const { cert, key } = readTlsFiles({ certFile: ca, keyFile: caKey, optionNames });
  checkAuthority(cert.toString(), `option --ca: ${ca}`, now);
  try {
    readSigner(key.toString());
  } catch (error) {
    throw new UsageError(`option --ca-key: ${caKey} holds ${messageOf(error)}`, { cause: error });
  }
  return { cert: cert.toString(), key: key.toString() };
}
