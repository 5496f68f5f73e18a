import { type OptionTable, filePath, flag, oneOf } from '../common/options.ts';
import { hostName, serviceName } from './names.ts';

/** A minute and a half: what is shorter has ended before anything was started with it. */
const minDays = 0.001;
const maxDays = 3650;
const maxCaDays = 10 * maxDays;
const maxClientName = 64;
const rsaBits = ['2048', '3072', '4096'] as const;

function days(max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,5}(?:\.\d{1,6})?$/.test(text) ? Number(text) : NaN;
    if (!(value >= minDays && value <= max)) {
      throw new Error(`expected a number of days from ${minDays} to ${max}, such as 30 or 0.5`);
    }
    return value;
  };
}

function clientName(text: string): string {
  if (!/^\P{Cc}+$/u.test(text) || text.trim() === '' || text.length > maxClientName) {
    throw new Error(`expected 1 to ${maxClientName} characters, none of them a control character`);
  }
  return text;
}

/** Options of `quorumbridge certs`; docs/configuration.md is the reference. */
export const certsOptions = {
  action: {
    name: 'action',
    argument: 'ACTION',
    env: 'QUORUMBRIDGE_ACTION',
    description: 'What to do: generate; the first argument says it too.',
    required: true,
    parse: oneOf('generate'),
  },
  dir: {
    name: 'dir',
    argument: 'DIR',
    env: 'QUORUMBRIDGE_DIR',
    description: 'The folder to write to, made where it is missing; the second argument says it too.',
    required: true,
    parse: filePath(),
  },
  host: {
    name: 'host',
    argument: 'HOST',
    env: 'QUORUMBRIDGE_HOST',
    description: 'A DNS name or an IP address of the server.',
    hiddenDefault: "localhost, 127.0.0.1, ::1 and this machine's name",
    repeatable: true,
    parse: hostName(),
  },
  service: {
    name: 'service',
    argument: 'NAME.NAMESPACE',
    env: 'QUORUMBRIDGE_SERVICE',
    description:
      "The server's Service in Kubernetes: its names, and those of the pods behind NAME-nodes, besides --host.",
    repeatable: true,
    parse: serviceName(),
  },
  clientName: {
    name: 'client-name',
    argument: 'NAME',
    env: 'QUORUMBRIDGE_CLIENT_NAME',
    description: "The client's common name: the user that RabbitMQ takes it for with EXTERNAL.",
    default: 'guest',
    parse: clientName,
  },
  keyType: {
    name: 'key-type',
    argument: 'TYPE',
    env: 'QUORUMBRIDGE_KEY_TYPE',
    description: 'What the new keys are: ecdsa, on P-256, or rsa.',
    default: 'ecdsa',
    parse: oneOf('ecdsa', 'rsa'),
  },
  rsaBits: {
    name: 'rsa-bits',
    argument: 'BITS',
    env: 'QUORUMBRIDGE_RSA_BITS',
    description: `With --key-type=rsa: how long the keys are: ${rsaBits.join(', ')}.`,
    hiddenDefault: '2048',
    parse: (text: string) => Number(oneOf(...rsaBits)(text)),
  },
  days: {
    name: 'days',
    argument: 'DAYS',
    env: 'QUORUMBRIDGE_DAYS',
    description: `How long the server's and the client's certificate last, but never longer than the CA: ${minDays} to ${maxDays}.`,
    default: 90,
    parse: days(maxDays),
  },
  caDays: {
    name: 'ca-days',
    argument: 'DAYS',
    env: 'QUORUMBRIDGE_CA_DAYS',
    description: `How long a new CA lasts: ${minDays} to ${maxCaDays}.`,
    hiddenDefault: 'ten times --days',
    parse: days(maxCaDays),
  },
  expired: {
    name: 'expired',
    env: 'QUORUMBRIDGE_EXPIRED',
    description: "Let the server's and the client's certificate have ended an hour ago; the CA is good.",
    parse: flag(),
  },
  ca: {
    name: 'ca',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_CA',
    description: 'Certificate (PEM, with its chain) of the CA to sign with, in place of a new one.',
    parse: filePath(),
  },
  caKey: {
    name: 'ca-key',
    argument: 'FILE',
    env: 'QUORUMBRIDGE_CA_KEY',
    description: 'Private key (PEM) of --ca. It is not copied to DIR.',
    parse: filePath(),
  },
  force: {
    name: 'force',
    env: 'QUORUMBRIDGE_FORCE',
    description: 'Replace files that are there already.',
    parse: flag(),
  },
} as const satisfies OptionTable;
