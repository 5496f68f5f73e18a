// The kit's connection by TLS, both sides checked, to real brokers.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseMessaging } from '../../messaging/config.ts';
import { openConnection, versionOf } from '../../messaging/connection.ts';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { generateCerts } from '../support/generated-certs.ts';

const CONF = `
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/server.crt
ssl_options.keyfile = @FILES@/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true`;

await describeBrokers(['3.10', '4.3'], (version) => {
  let root: string;
  let broker: Broker;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'quorumbridge-messaging-'));
    const files = await generateCerts(join(root, 'good'));
    await generateCerts(join(root, 'strange'));
    broker = await startBroker(version, { files, conf: CONF });
  });
  afterAll(async () => {
    await broker?.stop();
    await rm(root, { recursive: true, force: true });
  });

  const connect = (...keys: string[]) => {
    const own = [`cert_file: ${root}/good/client.crt`, `key_file: ${root}/good/client.key`];
    const text = `url: amqps://127.0.0.1:${broker.amqpsPort}\ntls: { ${[...own, ...keys].join(', ')} }`;
    return openConnection(parseMessaging('m.yaml', text, {}).connection, 'test');
  };

  it("takes the broker's certificate by authority and name, shows its own, and refuses what is strange", async () => {
    const model = await connect(`ca_file: ${root}/good/ca.crt`, 'server_name: localhost');
    const { major, minor } = versionOf(model);
    expect(`${major}.${minor}`).toBe(version);
    await model.close();

    await expect(connect(`ca_file: ${root}/strange/ca.crt`, 'server_name: localhost')).rejects.toThrow(
      /: the TLS handshake failed \(\w+\): ca_file has to hold the authority/,
    );
    await expect(connect(`ca_file: ${root}/good/ca.crt`, 'server_name: elsewhere')).rejects.toThrow(
      'the TLS handshake failed (ERR_TLS_CERT_ALTNAME_INVALID): ca_file has to hold',
    );
    const open = await connect(`ca_file: ${root}/strange/ca.crt`, 'skip_verify: true');
    await open.close();
  });
});
