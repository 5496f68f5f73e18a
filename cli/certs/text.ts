import { X509Certificate } from 'node:crypto';
import { join, resolve } from 'node:path';
import type { Generated } from '../../certs/generate.ts';

/** A word of a command line as a shell reads it back. */
function quoted(word: string): string {
  return /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

function line(label: string, value: string): string {
  return `  ${`${label}:`.padEnd(10)}${value}\n`;
}

function seconds(date: Date): string {
  return date.toISOString().replace('.000Z', 'Z');
}

function describe(title: string, pem: string, authority: X509Certificate, now: number): string {
  const certificate = new X509Certificate(pem);
  const { subject, subjectAltName, validFromDate, validToDate, publicKey } = certificate;
  const { modulusLength, namedCurve } = publicKey.asymmetricKeyDetails ?? {};
  const isLeaf = certificate.fingerprint256 !== authority.fingerprint256;
  const isCut = isLeaf && validToDate.getTime() === authority.validToDate.getTime();
  const remark = [validToDate.getTime() < now ? ' (expired)' : '', isCut ? ' (with its CA)' : ''].join('');
  return [
    `${title}\n`,
    line('subject', subject.replaceAll('\n', ', ')),
    subjectAltName === undefined ? '' : line('names', subjectAltName),
    line('key', modulusLength === undefined ? `ECDSA ${namedCurve}` : `RSA ${modulusLength}`),
    line('valid', `${seconds(validFromDate)} to ${seconds(validToDate)}${remark}`),
  ].join('');
}

/** Says what was written to the folder, and how it is used. `now` is Unix time in milliseconds. */
export function asText(folder: string, { ca, server, client }: Generated, host: string, now: number): string {
  const at = (name: string): string => quoted(join(folder, name));
  const whole = (name: string): string => resolve(folder, name);
  const authority = new X509Certificate(ca.cert);
  const caFiles = ca.key === undefined ? at('ca.crt') : `${at('ca.crt')}, ${at('ca.key')}`;
  return `${describe(`${caFiles}: CA`, ca.cert, authority, now)}\
${describe(`${at('server.crt')}, ${at('server.key')}: server`, server.cert, authority, now)}\
${describe(`${at('client.crt')}, ${at('client.key')}: client`, client.cert, authority, now)}
A proxy that lets clients in by their certificates:
  quorumbridge proxy --backend=127.0.0.1:5673 --listen=amqps://127.0.0.1:5671 \\
    --tls-cert=${at('server.crt')} --tls-key=${at('server.key')} --tls-ca=${at('ca.crt')}

RabbitMQ that does, in rabbitmq.conf (its user has to be able to read server.key):
  listeners.ssl.default = 5671
  ssl_options.cacertfile = ${whole('ca.crt')}
  ssl_options.certfile = ${whole('server.crt')}
  ssl_options.keyfile = ${whole('server.key')}
  ssl_options.verify = verify_peer
  ssl_options.fail_if_no_peer_cert = true

A client:
  openssl s_client -connect ${quoted(host.includes(':') ? `[${host}]:5671` : `${host}:5671`)} -verify_return_error \\
    -CAfile ${at('ca.crt')} -cert ${at('client.crt')} -key ${at('client.key')}
`;
}
